#!/usr/bin/env python3
"""Recompute a Tollway bill from what the API says, and from nothing else.

    check.py FOLDER

FOLDER holds three answers of the API, saved as they came:
    charges.json  GET /qos-transfers/v0.1/reservations/{id}/charges
    usage.json    GET /qos-transfers/v0.1/reservations/{id}/usage
    tiers.json    GET /qos-transfers/v0.1/tiers

Prices are compared with those of the revision of the tier that was sold. When the tier has changed since, save
GET /qos-transfers/v0.1/tiers?tier=NAME&revision=N as tiers.json (both stand in charges.json).

Long lists come in pages. Read on with `?after=NEXT` until `next` is null, and put the `readings` (usage) and the
`slots` of each line (charges) of all pages into one file, whose `next` is null.

Exact rational arithmetic, standard library only. Exit 0 when the bill is right, 1 when it is not, 2 when the
files cannot be read or are not the whole.
"""
import json
import os
import sys
from datetime import datetime
from fractions import Fraction

MILLION = 10**6
MS_PER_HOUR = 3_600_000


def load(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


def ms(text):
    """RFC 3339 to milliseconds since 1970."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return round(at.timestamp() * 1000)


def round_half_even(value):
    """To a whole number of micros; Python's round() of a Fraction goes half to even."""
    return round(value)


def delivered_by_slot(usage):
    """Metered bytes of each slot: differences of cumulative readings, per life of the counter."""
    last, slots = {}, {}
    for r in sorted(usage["readings"], key=lambda r: (r["incarnation"], r["seq"])):
        key = r["incarnation"]
        slots[r["slot_from"]] = slots.get(r["slot_from"], 0) + r["bytes"] - last.get(key, 0)
        last[key] = r["bytes"]
    return slots


def line_amount(line, charge_by, metered, problems):
    """The exact amount of one line, from its slots."""
    total = Fraction(0)
    billed = {}
    for slot in line["slots"]:
        segment = line["segments"][slot["segment"]]
        price = Fraction(segment["unit_price_micros"] * segment["multiplier_ppm"], MILLION)
        if line["unit"] == "mbps_hour":
            mbps = Fraction(segment["rate_bps"], MILLION)
            total += price * mbps * Fraction(slot["kept_ms"], MS_PER_HOUR)
        else:
            total += price * Fraction(slot["bytes"], 10**9)
            billed[slot["slot_from"]] = billed.get(slot["slot_from"], 0) + slot["bytes"]
    for start, count in billed.items():
        if count > metered.get(start, 0):
            problems.append(f"slot {start}: {count} bytes billed, {metered.get(start, 0)} metered")
    if total != Fraction(int(line["numerator"]), int(line["scale"])):
        problems.append(f"a line's numerator {line['numerator']} / {line['scale']} is not {total}")
    return total


def promised_bytes(segments, since, until):
    """What the schedule promises between two instants in milliseconds, rounded up."""
    bits = Fraction(0)
    for segment in segments:
        overlap = min(ms(segment["until"]), until) - max(ms(segment["from"]), since)
        bits += Fraction(segment["rate_bps"] * max(overlap, 0), 1000)
    return -(-bits // 8)


def above_promise(line, slot_ms, problems):
    """No slot is billed more bytes than were promised for the time that it covers: its own, and from `covers_from`
    on when slots before it had no reading."""
    billed, since = {}, {}
    for slot in line["slots"]:
        start = slot["slot_from"]
        billed[start] = billed.get(start, 0) + slot["bytes"]
        covers = ms(slot.get("covers_from", start))
        since[start] = min(since.get(start, covers), covers)
    for start, count in billed.items():
        promise = promised_bytes(line["segments"], since[start], ms(start) + slot_ms)
        if count > promise:
            problems.append(f"slot {start}: {count} bytes billed, {promise} promised")


def unit_prices(value):
    """Every unit price that the operator publishes, wherever in a tier it stands."""
    if isinstance(value, list):
        return set().union(*map(unit_prices, value))
    if isinstance(value, dict):
        own = {value["unit_price_micros"]} if isinstance(value.get("unit_price_micros"), int) else set()
        return own.union(*map(unit_prices, value.values()))
    return set()


def sold_tier(charges, tiers):
    """The tier at the revision that was sold; None when tiers.json has another one."""
    sold = (charges["tier"], charges["tier_revision"])
    return next((tier for tier in tiers["tiers"] if (tier["name"], tier["revision"]) == sold), None)


def pages_left(answers):
    """Says of each answer that is one page of several how to make it whole."""
    left = {name: answer["next"] for name, answer in answers.items() if answer.get("next") is not None}
    for name, cursor in left.items():
        print(f"INCOMPLETE: {name} is one page of several, so the bill cannot be checked: read on with "
              f"?after={cursor} until `next` is null, and put what all pages list into one file")
    return bool(left)


def main(folder):
    charges, usage, tiers = (load(folder, n) for n in ("charges.json", "usage.json", "tiers.json"))
    if pages_left({"charges.json": charges, "usage.json": usage}):
        return 2
    problems = []
    metered = delivered_by_slot(usage)
    if sum(metered.values()) != usage["metered_bytes"]:
        problems.append(f"readings add up to {sum(metered.values())}, not {usage['metered_bytes']}")
    tier = sold_tier(charges, tiers)
    published = unit_prices(tier) if tier else None
    if tier is None:
        print(f"note: price of revision {charges['tier_revision']} is not in tiers.json: not compared")
    total = 0
    for line in charges["lines"]:
        exact = line_amount(line, charges["charge_by"], metered, problems)
        if line["unit"] == "gb":
            above_promise(line, usage["slot_s"] * 1000, problems)
        if tier and line.get("setup_micros", 0) not in {0, tier["setup_micros"]}:
            problems.append(f"setup price {line['setup_micros']} is not published")
        amount = round_half_even(exact) + line.get("setup_micros", 0)
        kept = sum(s["kept_ms"] for s in line["slots"]) / 1000
        unit = {"mbps_hour": "Mbit/s for an hour", "gb": "GB delivered"}[line["unit"]]
        for segment in line["segments"]:
            if published is not None and segment["unit_price_micros"] not in published:
                problems.append(f"unit price {segment['unit_price_micros']} is not published")
        prices = sorted({s["unit_price_micros"] * s["multiplier_ppm"] // MILLION for s in line["segments"]})
        at = " and ".join(f"{p / MILLION:.6f}" for p in prices)
        count = len(line["slots"])
        print(f"{count} slot{'' if count == 1 else 's'}, {kept:.1f} s kept, at {at} {charges['currency']} per {unit}: "
              f"{amount / MILLION:.6f}")
        if amount != line["posted_micros"]:
            problems.append(f"line posted {line['posted_micros']}, recomputed {amount}")
        total += amount
    total += charges.get("cancel_fee_micros", 0)
    if total != charges["total_micros"]:
        problems.append(f"the bill says {charges['total_micros']}, recomputed {total}")
    if total > charges["held_at_first_micros"]:
        problems.append(f"{total} is more than the {charges['held_at_first_micros']} that were held")
    print(f"metered_bytes {usage['metered_bytes']}")
    print(f"billed_micros {charges['total_micros']}")
    print(f"recomputed_micros {total}")
    for problem in problems:
        print("WRONG:", problem)
    print("the bill is right" if not problems else "the bill is WRONG")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1]))
    except (OSError, KeyError, ValueError, IndexError) as error:
        print(f"cannot read the bill: {type(error).__name__} {error}")
        sys.exit(2)

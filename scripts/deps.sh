#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks. Argument: the oldest cargo that works.
set -euo pipefail
min=$1

if ! command -v cargo >/dev/null 2>&1; then
  echo "cargo is missing. Install Rust with this one line, then run make again:" >&2
  echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
  exit 1
fi
have=$(cargo --version | sed -E 's/^cargo ([0-9]+\.[0-9]+).*/\1/')
if [ "$(printf '%s\n%s\n' "$min" "$have" | sort -V | head -n 1)" != "$min" ]; then
  echo "cargo $have is too old, $min is needed. Run this one line, then make again:" >&2
  echo "  rustup update stable" >&2
  exit 1
fi

if ! command -v dpkg >/dev/null 2>&1; then
  echo "this is no Debian or Ubuntu: install a C compiler, pkg-config, libmnl, libnftnl and OpenSSL with their headers," >&2
  echo "nftables, iproute2, python3, git and CA certificates by hand, then use the cargo commands of the Makefile." >&2
  exit 1
fi
packages=()
need() { dpkg -s "$1" >/dev/null 2>&1 || packages+=("$1"); }
need ca-certificates  # cargo fetches crates over TLS
need git            # make check lists the files by it
need gcc            # links, and compiles the embedded SQLite
need libc6-dev
need pkg-config
need libmnl-dev     # the agent speaks netlink through libmnl and libnftnl
need libnftnl-dev
need libssl-dev     # the second Diameter implementation of the tests links it
need nftables       # the tests' and the lab's independent oracle, never the product's tool
need iproute2
need python3        # recomputes the bill in the demo
need freediameterd  # a relay between a gateway and us, and a strict judge of base messages
need freediameter-extensions
need openssl        # the certificate that freeDiameterd wants also where nobody uses TLS
need erlang-base    # Erlang/OTP's diameter plays a gateway
need erlang-diameter
need erlang-dev
need tshark         # judges every Diameter frame of the tests
if [ ${#packages[@]} -gt 0 ]; then
  echo "installing: ${packages[*]}"
  sudo=""
  if [ "$(id -u)" -ne 0 ]; then sudo="sudo"; fi
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

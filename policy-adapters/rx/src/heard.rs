//! Reads what a PCRF says of its own accord (RAR, TS 29.214 §5.6.3), and the usage in RAR and STA. Everything is
//! checked before anything has an effect.

use crate::limits::{ACTIONS_MAX, FLOWS_MAX, FLOWS_REPORTED_MAX};
use tollway_diameter::avp::Definition;
use tollway_diameter::avp::ietf::{CC_INPUT_OCTETS, CC_OUTPUT_OCTETS, CC_TOTAL_OCTETS, USED_SERVICE_UNIT};
use tollway_diameter::avp::tgpp::{
    FLOWS, MEDIA_COMPONENT_NUMBER, SPECIFIC_ACTION, SPONSORED_CONNECTIVITY_DATA,
};
use tollway_diameter::{Error, Message};

/// Specific-Action (TS 29.214 §5.3.13), as far as something follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Lost,
    Recovered,
    Released,
    OutOfCredit,
    Succeeded,
    Failed,
    Usage,
    Other,
}

impl Action {
    const fn from_code(code: u32) -> Action {
        match code {
            2 => Action::Lost,
            // Credit that was given again, after it had run out, is a recovery.
            3 | 18 => Action::Recovered,
            4 => Action::Released,
            7 => Action::OutOfCredit,
            8 => Action::Succeeded,
            9 => Action::Failed,
            11 => Action::Usage,
            _ => Action::Other,
        }
    }
}

/// Bytes since the last report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Used {
    pub up: u64,
    pub down: u64,
    /// Where the PCRF does not say which way they went.
    pub total: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Heard {
    pub actions: Vec<Action>,
    /// Media components that are meant, a bit each from number 1 on: all if none is named.
    pub components: u8,
    pub used: Option<Used>,
}

impl Heard {
    /// # Errors
    /// More actions or flows than can be meant.
    pub fn read(message: &Message<'_>) -> Result<Heard, Error> {
        let bounded = |avp: Definition, max: usize| match message.all(avp).nth(max) {
            Some(beyond) => Err(Error::TooMany(beyond.offender())),
            None => Ok(message.all(avp)),
        };
        let actions = bounded(SPECIFIC_ACTION, ACTIONS_MAX)?
            .filter_map(|avp| avp.u32())
            .map(Action::from_code)
            .collect();
        let mut named = None;
        for flows in bounded(FLOWS, FLOWS_REPORTED_MAX)? {
            let number = flows.find(MEDIA_COMPONENT_NUMBER).and_then(|avp| avp.u32()).unwrap_or(0);
            let is_ours = (1..=u32::from(FLOWS_MAX)).contains(&number);
            let bit = if is_ours { 1 << (number - 1) } else { 0 };
            named = Some(named.unwrap_or(0) | bit);
        }
        Ok(Heard { actions, components: named.unwrap_or(u8::MAX), used: used(message) })
    }
}

/// Used-Service-Unit in Sponsored-Connectivity-Data (TS 29.214 §5.3.27); `None` when nothing was used. A total
/// beside directions says the same bytes again.
pub(crate) fn used(message: &Message<'_>) -> Option<Used> {
    let unit = message.find(SPONSORED_CONNECTIVITY_DATA)?.find(USED_SERVICE_UNIT)?;
    let get = |avp: Definition| unit.find(avp).and_then(|avp| avp.u64());
    let used = match (get(CC_INPUT_OCTETS), get(CC_OUTPUT_OCTETS), get(CC_TOTAL_OCTETS)) {
        (None, None, total) => Used { up: 0, down: 0, total: total? },
        (up, down, _) => Used { up: up.unwrap_or(0), down: down.unwrap_or(0), total: 0 },
    };
    (used != Used { up: 0, down: 0, total: 0 }).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_diameter::{Writer, application, command};

    fn read(fill: impl FnOnce(&mut Writer)) -> Result<Heard, Error> {
        let mut w = Writer::request(command::RE_AUTH, application::RX);
        fill(&mut w);
        let bytes = w.finish().unwrap();
        Heard::read(&Message::parse(&bytes).unwrap())
    }

    fn flows(w: &mut Writer, number: u32) {
        w.group(FLOWS, |w| w.u32(MEDIA_COMPONENT_NUMBER, number));
    }

    #[test]
    fn components_are_those_named_or_all() {
        assert_eq!(read(|_| ()).unwrap().components, 0xff);
        assert_eq!(read(|w| [1, 3].into_iter().for_each(|n| flows(w, n))).unwrap().components, 0b101);
        // Named, but none of ours: nothing is meant.
        assert_eq!(read(|w| [0, 9].into_iter().for_each(|n| flows(w, n))).unwrap().components, 0);
    }

    #[test]
    fn lists_are_bounded() {
        let actions = |n: usize| read(move |w| (0..n).for_each(|_| w.u32(SPECIFIC_ACTION, 2)));
        assert_eq!(actions(ACTIONS_MAX).unwrap().actions.len(), ACTIONS_MAX);
        assert_eq!(actions(ACTIONS_MAX + 1).unwrap_err().result_code(), 5009);
        let many = |n: usize| read(move |w| (0..n).for_each(|_| flows(w, 1)));
        assert_eq!(many(FLOWS_REPORTED_MAX).unwrap().components, 1);
        assert_eq!(many(FLOWS_REPORTED_MAX + 1).unwrap_err().result_code(), 5009);
    }

    #[test]
    fn usage_counts_each_byte_once() {
        let unit = |fill: &dyn Fn(&mut Writer)| {
            let heard = read(|w| {
                w.group(SPONSORED_CONNECTIVITY_DATA, |w| w.group(USED_SERVICE_UNIT, |w| fill(w)));
            });
            heard.unwrap().used.map(|used| (used.up, used.down, used.total))
        };
        assert_eq!(unit(&|_| ()), None);
        assert_eq!(unit(&|w| w.u64(CC_TOTAL_OCTETS, 0)), None);
        assert_eq!(unit(&|w| w.u64(CC_TOTAL_OCTETS, 7)), Some((0, 0, 7)));
        assert_eq!(unit(&|w| w.u64(CC_OUTPUT_OCTETS, 5)), Some((0, 5, 0)));
        assert_eq!(
            unit(&|w| {
                w.u64(CC_TOTAL_OCTETS, 7);
                w.u64(CC_INPUT_OCTETS, 2);
                w.u64(CC_OUTPUT_OCTETS, 5);
            }),
            Some((2, 5, 0))
        );
    }
}

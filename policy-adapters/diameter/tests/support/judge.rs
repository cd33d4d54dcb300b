//! Feeds one mutant to everything that a peer's bytes reach, and holds what must be true afterwards.

use tollway_diameter::avp::Walk;
use tollway_diameter::framer::Framer;
use tollway_diameter::{Message, answer, application, check};

const SERVED: [u32; 2] = [application::GX, application::RX];

fn visit(walk: Walk<'_>, depth: usize, seen: &mut usize) {
    for avp in walk.map_while(Result::ok) {
        *seen += 1;
        let values = (avp.u32(), avp.u64(), avp.i32(), avp.i64(), avp.text(), avp.address(), avp.unix_s());
        std::hint::black_box(values);
        if depth < 8
            && avp.definition().is_some_and(|known| known.kind == tollway_diameter::avp::Kind::Grouped)
        {
            visit(avp.walk(), depth + 1, seen);
        }
    }
}

/// The Result-Code that the bytes deserve; every refusal is itself a message that we would take.
pub fn judge(bytes: &[u8]) -> u32 {
    let mut framer = Framer::default();
    framer.push(bytes);
    let _ = framer.next_frame().map(|frame| frame.map(<[u8]>::len));
    let origin = super::messages::origin("pcrf.example.net");
    let message = match Message::parse_frame(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.loses_the_stream());
            return error.result_code();
        }
    };
    let mut seen = 0;
    visit(message.walk(), 1, &mut seen);
    assert!(seen <= 8 * bytes.len(), "a walk is bounded by its bytes");
    if !message.is_request() {
        let checked = Message::parse(bytes).and_then(|message| check::avps(&message));
        return checked.map_or_else(|error| error.result_code(), |()| 2001);
    }
    let checked = Message::parse(bytes).and_then(|message| check::request(&message, &SERVED));
    let Err(error) = checked else { return 2001 };
    let refusal = answer::refuse(&message, &origin, &error);
    let refused = Message::parse(&refusal).expect("a refusal is a message");
    assert_eq!(refused.result().map(|outcome| outcome.code), Some(error.result_code()));
    assert_eq!(refused.header.is_error(), error.result_code() < 4000);
    assert_eq!(refused.header.hop_by_hop, message.header.hop_by_hop);
    assert!(!refused.is_request() && refused.bytes().len() <= 65_536);
    error.result_code()
}

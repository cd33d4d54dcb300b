//! What gateways said and whose effect is not durable yet. When the machine is made anew, it hears it again, in its
//! order: what was recorded has no second effect, what was not has its first.

use super::limits::{KEPT_MAX, UNDECIDED_MAX};
use std::collections::BTreeMap;
use tokio::time::Instant;
use tollway_diameter::node::Responder;
use tollway_diameter::{Frame, Origin, answer, result};
use tollway_gx::{Input, Mark, Token};

#[derive(Debug)]
struct Request {
    frame: Frame,
    responder: Responder,
    since: Instant,
    /// A machine has heard it: what it makes of it may be recorded.
    is_taken_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    requests: BTreeMap<Token, Request>,
    /// Gateways that lost their sessions; with the mark of the last fact that follows from it.
    restarts: BTreeMap<Token, (String, Option<Mark>)>,
    next: u64,
}

impl Kept {
    pub(super) fn request(&mut self, frame: Frame, responder: Responder) -> Token {
        let token = self.token();
        let since = Instant::now();
        self.requests.insert(token, Request { frame, responder, since, is_taken_up: false });
        token
    }

    pub(super) fn restarted(&mut self, origin_host: String) -> Token {
        let token = self.token();
        self.restarts.insert(token, (origin_host, None));
        token
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    /// What is kept, in the order in which it was said.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.requests.keys().chain(self.restarts.keys()).copied().collect();
        tokens.sort_unstable();
        tokens
    }

    pub(super) fn requests_len(&self) -> usize {
        self.requests.len()
    }

    /// Hands it to the machine.
    pub(super) fn input(&mut self, token: Token) -> Option<Input> {
        if let Some(request) = self.requests.get_mut(&token) {
            request.is_taken_up = true;
            return Some(Input::Request { token, frame: request.frame.clone() });
        }
        let (origin_host, _) = self.restarts.get(&token)?;
        Some(Input::Restarted { origin_host: origin_host.clone() })
    }

    /// Its facts are those up to the mark.
    pub(super) fn stands_on(&mut self, token: Token, last: Mark) {
        if let Some((_, mark)) = self.restarts.get_mut(&token) {
            *mark = Some(last);
        }
    }

    /// The answer may leave.
    pub(super) fn answer(&mut self, token: Token, bytes: Vec<u8>) {
        if let Some(request) = self.requests.remove(&token) {
            request.responder.answer(bytes);
        }
    }

    pub(super) fn durable(&mut self, durable: Mark) {
        self.restarts.retain(|_, (_, mark)| mark.is_none_or(|mark| mark > durable));
    }

    /// Marks were those of a machine that is no more.
    pub(super) fn begin_again(&mut self) {
        self.restarts.values_mut().for_each(|(_, mark)| *mark = None);
    }

    /// Answers what nobody could decide on, and forgets what its gateway has given up.
    pub(super) fn give_up(&mut self, now: Instant, origin: &Origin) {
        let waited = |request: &Request| now.saturating_duration_since(request.since);
        let is_due =
            |request: &Request| waited(request) >= if request.is_taken_up { KEPT_MAX } else { UNDECIDED_MAX };
        for (_, request) in self.requests.extract_if(.., |_, request| is_due(request)) {
            if !request.is_taken_up {
                let why = "no decision can be recorded at present";
                let busy = answer::refuse_with(&request.frame.message(), origin, result::TOO_BUSY, why);
                request.responder.answer(busy);
            }
        }
    }
}

//! Closed vocabularies that go both ways, each word as the glossary has it.

use serde::{Deserialize, Serialize};
use tollway_model as model;
use utoipa::ToSchema;

/// Up is from the access line into the operator's network, down is towards the line.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Up,
    Down,
}

impl From<Direction> for model::Direction {
    fn from(word: Direction) -> model::Direction {
        match word {
            Direction::Up => model::Direction::Up,
            Direction::Down => model::Direction::Down,
        }
    }
}

impl From<model::Direction> for Direction {
    fn from(direction: model::Direction) -> Direction {
        match direction {
            model::Direction::Up => Direction::Up,
            model::Direction::Down => Direction::Down,
        }
    }
}

/// Transport protocol of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl From<Protocol> for model::Protocol {
    fn from(word: Protocol) -> model::Protocol {
        match word {
            Protocol::Tcp => model::Protocol::Tcp,
            Protocol::Udp => model::Protocol::Udp,
        }
    }
}

impl From<model::Protocol> for Protocol {
    fn from(protocol: model::Protocol) -> Protocol {
        match protocol {
            model::Protocol::Tcp => Protocol::Tcp,
            model::Protocol::Udp => Protocol::Udp,
        }
    }
}

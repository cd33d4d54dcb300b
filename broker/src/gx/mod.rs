//! Gateways over Gx: an enforcement point within this process. It speaks to the engine as an agent does: it is
//! told a desired set and its changes, says numbered batches of reports, and lets nothing go to a gateway before
//! what justifies it is durable.

mod batches;
pub mod capture;
mod kept;
mod life;
pub mod limits;
mod link;
mod time;
mod view;
pub mod words;

pub use view::{GatewayRow, Gateways, Status, View};

use crate::agents::Hub;
use crate::config::Gx;
use crate::driver::Handle;
use limits::ASKS_MAX;
use link::Link;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tollway_diameter::node::{Node, StartError};

/// Binds, connects and serves gateways until `stop` is true.
///
/// # Errors
/// An address that cannot be bound.
pub async fn start(
    gx: Gx,
    hub: Arc<Hub>,
    driver: Handle,
    stop: watch::Receiver<bool>,
) -> Result<(Gateways, JoinHandle<()>), StartError> {
    let (node, events) = Node::start(gx.node.clone()).await?;
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let gateways = Gateways { node: node.clone(), asks };
    let link = Link::new(gx, hub, driver, node, events, asked, stop);
    Ok((gateways, tokio::spawn(link.run())))
}

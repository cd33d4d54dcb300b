//! What the NOC and the metrics see of peers and gateways.

use super::limits::ASK_WAIT;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tollway_diameter::counters::PeerView;
use tollway_diameter::node;
use tollway_model::Timestamp;

/// A gateway by its Origin-Host; it may stand behind a relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayRow {
    pub origin_host: String,
    pub sessions: usize,
    /// Sessions that wait for their turn to be told.
    pub pushes_waiting: usize,
    pub pushes_in_flight: usize,
}

/// How the driver of the gateways stands.
#[derive(Clone, Default, Debug)]
pub struct View {
    /// The engine has said what should hold.
    pub is_ready: bool,
    pub gateways: Vec<GatewayRow>,
    /// Since the start, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// When each peer's state last changed, by the wall clock.
    pub since: BTreeMap<String, Timestamp>,
    /// Facts that are not durable, and requests without an answer.
    pub facts_waiting: usize,
    pub requests_waiting: usize,
}

/// Everything at one moment.
#[derive(Clone, Default, Debug)]
pub struct Status {
    pub peers: Vec<PeerView>,
    pub view: View,
}

/// Asks the driver of the gateways; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateways {
    pub(super) node: node::Handle,
    pub(super) asks: mpsc::Sender<oneshot::Sender<View>>,
}

impl Gateways {
    /// Peers and gateways; what cannot be said in time is left out.
    pub async fn status(&self) -> Status {
        let peers = timeout(ASK_WAIT, self.node.peers()).await.unwrap_or_default();
        let asked = async {
            let (reply, view) = oneshot::channel();
            self.asks.send(reply).await.ok()?;
            view.await.ok()
        };
        let view = timeout(ASK_WAIT, asked).await.ok().flatten().unwrap_or_default();
        Status { peers, view }
    }

    /// Addresses listened on.
    pub fn listening(&self) -> &[std::net::SocketAddr] {
        self.node.listening()
    }
}

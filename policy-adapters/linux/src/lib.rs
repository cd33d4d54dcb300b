//! The kernel side: netlink sockets, the nf_tables structure (libnftnl), reconciliation and meters.
//!
//! [`Enforcer`] holds the desired legs and makes the kernel follow them; it is driven by its owner's loop and
//! starts no thread of its own except to probe what the kernel has.

pub mod caps;
pub mod enforcer;
pub mod error;
pub mod kernel;
pub mod limits;
pub mod links;
pub mod meter;
pub mod monitor;
mod observe;
pub mod port_meter;
mod socket;
pub mod state;
mod status;
mod structure;
mod table;

pub use caps::Capabilities;
pub use enforcer::{Enforcer, PortConfig};
pub use error::{Error, Result};
pub use kernel::Kernel;
pub use kernel::boot_ms;
pub use monitor::{Monitor, Topic};
pub use state::State;

//! Netlink, HTB and nf_tables codecs, and the pure difference between desired and actual kernel state.
//! Nothing here opens a socket.
#![forbid(unsafe_code)]

pub mod actual;
pub mod diff;
pub mod htb;
pub mod layout;
pub mod leaf;
pub mod link;
pub mod nft;
pub mod tc;
pub mod wire;

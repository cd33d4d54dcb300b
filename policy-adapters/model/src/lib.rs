//! What every policy adapter speaks: the desired state of a leg, the reports about it, the readings of its
//! meters. Pure data; an adapter is whatever makes desired state so and reports what happened.
#![forbid(unsafe_code)]

pub mod desired;
pub mod report;
pub mod road;

pub use desired::{ClassShape, DesiredLeg, PolicyCommand, Side};
pub use report::{Gap, PolicyReport, PortReading, Reading, Report, SlotReading};
pub use road::{
    DeviceAddress, GxTerms, Metering, MobileAccess, Road, RxTerms, Session, SessionName, SessionReport,
    Sponsor, SubscriberRef,
};

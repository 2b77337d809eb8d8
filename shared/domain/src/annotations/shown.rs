//! Values as they would be written in an annotation or a config key.

use crate::affinity::SessionAffinity;
use crate::duration;
use crate::limits::{LoadBalancing, OnDisconnect, Protocol};
use crate::pem::Certificates;
use crate::scaling::{Aggregation, Manual};
use crate::units::Replicas;
use std::num::NonZeroU32;
use std::time::Duration;

/// A value that can be said in a problem or written to a file.
pub(crate) trait Shown: Clone {
    /// The value as it would be written.
    fn shown(&self) -> String;
}

macro_rules! shown_as_displayed {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::annotations::shown::Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        })+
    };
}

pub(crate) use shown_as_displayed;

shown_as_displayed!(u16, u32, f64, bool, String, Replicas, Protocol, OnDisconnect, LoadBalancing, Aggregation, Manual);

impl Shown for Duration {
    fn shown(&self) -> String {
        duration::short(*self)
    }
}

impl Shown for Option<Duration> {
    fn shown(&self) -> String {
        self.map_or_else(|| "off".into(), duration::short)
    }
}

impl Shown for Option<Replicas> {
    fn shown(&self) -> String {
        self.map_or_else(|| "0".into(), |count| count.to_string())
    }
}

impl Shown for Option<NonZeroU32> {
    fn shown(&self) -> String {
        self.map_or_else(|| "0".into(), |count| count.to_string())
    }
}

impl Shown for Option<u16> {
    fn shown(&self) -> String {
        self.map_or_else(|| "none".into(), |port| port.to_string())
    }
}

impl Shown for Option<Certificates> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "none".into(), ToString::to_string)
    }
}

impl Shown for Option<String> {
    fn shown(&self) -> String {
        self.clone().unwrap_or_else(|| "none".into())
    }
}

impl Shown for Option<SessionAffinity> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "none".into(), ToString::to_string)
    }
}

impl Shown for Vec<String> {
    fn shown(&self) -> String {
        self.join(",")
    }
}

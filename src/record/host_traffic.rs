//! [`HostTraffic`]: counts of the requests to a host whose records are not kept any more.

use super::{EndReason, Failure, Histogram, Text, Timings, serde_helpers::is_default};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Counts of the requests to a host whose records were evicted. Together with the requests of the trace these are
/// all requests since the trace began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HostTraffic {
    /// The host and port of the URLs, with `served` before it if this program answered the requests. Empty for all
    /// hosts that came after the first 64.
    pub host: Text,
    /// The number of requests.
    pub requests: u64,
    /// How many of them failed or timed out, by the code of the failure: 32 codes, and `others`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<Text, u64>,
    /// The number of requests that got a response with a status of 5xx.
    #[serde(skip_serializing_if = "is_default")]
    pub server_errors: u64,
    /// The number of requests that were sent over a connection which they did not make.
    #[serde(skip_serializing_if = "is_default")]
    pub reused_conns: u64,
    /// The number of requests that made a connection.
    #[serde(skip_serializing_if = "is_default")]
    pub new_conns: u64,
    /// The durations of each phase.
    #[serde(skip_serializing_if = "is_default")]
    pub phases: PhaseHistograms,
}

/// The durations of each phase of requests. The phases have the names of the fields of [`Timings`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseHistograms([Histogram; Timings::PHASES.len()]);

/// The maximum number of codes that are counted for a host.
const MAX_CODES: usize = 32;

impl HostTraffic {
    /// Counts a request that has ended.
    pub(crate) fn add(
        &mut self,
        timings: &Timings,
        reason: &EndReason,
        failure: Option<&Failure>,
        status: u16,
    ) {
        self.requests += 1;
        self.server_errors += u64::from(status >= 500);
        if reason.is_failure() {
            let code = failure.map_or("failed", Failure::as_str);
            let code = match self.failures.len() < MAX_CODES || self.failures.contains_key(code) {
                true => code,
                false => "others",
            };
            *self.failures.entry(code.into()).or_default() += 1;
        }
        for (histogram, time) in self.phases.0.iter_mut().zip(timings.phases()) {
            time.into_iter().for_each(|time| histogram.add(time));
        }
    }
}

impl PhaseHistograms {
    /// Returns the durations of a phase, such as `wait`.
    pub fn get(&self, phase: &str) -> Option<&Histogram> {
        self.iter().find(|(name, _)| *name == phase).map(|(_, histogram)| histogram)
    }

    /// Returns the phases that happened, in the order in which they happen, and `total`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        Timings::PHASES.into_iter().zip(&self.0).filter(|(_, histogram)| !histogram.is_empty())
    }
}

impl Serialize for PhaseHistograms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for PhaseHistograms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut phases = BTreeMap::<String, Histogram>::deserialize(deserializer)?;
        Ok(PhaseHistograms(Timings::PHASES.map(|name| phases.remove(name).unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn requests_are_counted_by_what_became_of_them() {
        let mut traffic = HostTraffic { host: "shop.test".into(), ..HostTraffic::default() };
        let wait = Some(Duration::from_millis(20));
        let timings = Timings { wait, total: wait, ..Timings::default() };
        traffic.add(&timings, &EndReason::Closed, None, 200);
        traffic.add(&timings, &EndReason::Closed, None, 503);
        traffic.add(&timings, &EndReason::Failed, Some(&Failure::ConnectionReset), 0);
        for code in 0..100 {
            let failure = Failure::from(format!("x_{code}").as_str());
            traffic.add(&Timings::default(), &EndReason::Failed, Some(&failure), 0);
        }
        assert_eq!((traffic.requests, traffic.server_errors), (103, 1));
        assert_eq!((traffic.failures["connection_reset"], traffic.failures["others"]), (1, 69));
        assert_eq!(traffic.phases.get("wait").map(Histogram::count), Some(3));
        assert_eq!(traffic.phases.get("dns"), None);

        let json = serde_json::to_value(&traffic).unwrap();
        assert_eq!(json["phases"].as_object().unwrap().keys().collect::<Vec<_>>(), ["total", "wait"]);
        assert_eq!(serde_json::from_value::<HostTraffic>(json).unwrap(), traffic);
    }
}

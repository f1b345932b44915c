//! [`SliceFilter`]: which finished requests are handed to a receiver.

use super::record_id::RecordId;
use crate::record::EndReason;
use std::time::Duration;

/// Chooses finished requests. A request is chosen if it meets any of the conditions that are set.
///
/// ```
/// use nettrace::SliceFilter;
/// use std::time::Duration;
///
/// // All that failed or took half a second, and one in a hundred of the rest.
/// let filter = SliceFilter::none().failed(true).slower_than(Duration::from_millis(500)).fraction(0.01);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct SliceFilter {
    failed: bool,
    slower_than: Option<Duration>,
    #[cfg(feature = "explain")]
    findings: bool,
    /// How many of 2^64 requests are chosen, whatever became of them.
    fraction: u64,
}

impl SliceFilter {
    /// Creates a filter that chooses no request.
    pub const fn none() -> Self {
        SliceFilter {
            failed: false,
            slower_than: None,
            #[cfg(feature = "explain")]
            findings: false,
            fraction: 0,
        }
    }

    /// Creates a filter that chooses all requests.
    pub const fn all() -> Self {
        SliceFilter { fraction: u64::MAX, ..SliceFilter::none() }
    }

    /// Sets whether requests are chosen that failed, timed out, or got a status of 5xx, or a gRPC status other than 0.
    pub const fn failed(mut self, failed: bool) -> Self {
        self.failed = failed;
        self
    }

    /// Chooses requests that took at least this long.
    pub const fn slower_than(mut self, time: Duration) -> Self {
        self.slower_than = Some(time);
        self
    }

    /// Sets whether requests are chosen about which [`explain`](crate::explain::explain) finds something.
    ///
    /// Every request is looked at for this, on the thread of the receiver. That takes about as much time as to write the
    /// slice.
    #[cfg(feature = "explain")]
    pub const fn with_findings(mut self, findings: bool) -> Self {
        self.findings = findings;
        self
    }

    /// Chooses this fraction of all requests in addition, from 0 to 1: `0.01` is one in a hundred.
    pub const fn fraction(mut self, fraction: f64) -> Self {
        // The conversion saturates.
        self.fraction = (fraction * (1u128 << 64) as f64) as u64;
        self
    }

    /// Returns whether a request is chosen.
    pub(super) fn choose(&self, request: &RequestOutcome<'_>) -> Choice {
        let is_chosen = self.failed && request.has_failed()
            || self.slower_than.is_some_and(|time| request.duration >= time)
            || self.fraction > 0 && scattered(request.id) <= self.fraction;
        #[cfg(feature = "explain")]
        if !is_chosen && self.findings {
            return Choice::IfExplained;
        }
        if is_chosen { Choice::Chosen } else { Choice::Rejected }
    }
}

#[cfg(feature = "explain")]
impl SliceFilter {
    /// Returns `true` if slices have to be looked at to know whether they are chosen.
    pub(super) fn needs_verdict(&self) -> bool {
        self.findings
    }
}

/// Whether a [`SliceFilter`] chooses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Chosen,
    /// Only if something is found out about its slice.
    #[cfg(feature = "explain")]
    IfExplained,
    Rejected,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestOutcome<'a> {
    pub(super) id: RecordId,
    pub(super) reason: &'a EndReason,
    /// The status code; 0 without a response.
    pub(super) status: u16,
    /// The status of a gRPC call, if it had one.
    pub(super) grpc_status: Option<u16>,
    pub(super) duration: Duration,
}

impl RequestOutcome<'_> {
    /// Returns `true` if the request failed, or the server says that it did.
    fn has_failed(&self) -> bool {
        self.reason.is_failure() || self.status >= 500 || self.grpc_status.is_some_and(|status| status != 0)
    }
}

/// Spreads the numbers of records, which are neighbours, over the whole range.
fn scattered(id: RecordId) -> u64 {
    // The finalizer of SplitMix64.
    let mixed = (id.get() ^ (id.get() >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(reason: &EndReason) -> RequestOutcome<'_> {
        let id = RecordId::from_nonzero(1);
        RequestOutcome { id, reason, status: 200, grpc_status: None, duration: Duration::from_millis(10) }
    }

    #[track_caller]
    fn assert_chosen(filter: &SliceFilter, request: RequestOutcome<'_>, is_chosen: bool) {
        let choice = if is_chosen { Choice::Chosen } else { Choice::Rejected };
        assert_eq!(filter.choose(&request), choice, "{filter:?}, {request:?}");
    }

    #[test]
    fn any_condition_is_enough() {
        let fine = request(&EndReason::Closed);
        let failed = SliceFilter::none().failed(true);
        assert_chosen(&SliceFilter::none(), request(&EndReason::Failed), false);
        assert_chosen(&SliceFilter::all(), fine, true);
        assert_chosen(&failed, fine, false);
        assert_chosen(&failed, request(&EndReason::Failed), true);
        assert_chosen(&failed, request(&EndReason::Timeout), true);
        assert_chosen(&failed, request(&EndReason::Cancelled), false);
        assert_chosen(&failed, RequestOutcome { status: 503, ..fine }, true);
        assert_chosen(&failed, RequestOutcome { status: 404, ..fine }, false);
        assert_chosen(&failed, RequestOutcome { grpc_status: Some(0), ..fine }, false);
        assert_chosen(&failed, RequestOutcome { grpc_status: Some(14), ..fine }, true);
        assert_chosen(&failed.slower_than(Duration::from_millis(10)), fine, true);
        assert_chosen(&failed.slower_than(Duration::from_millis(11)), fine, false);
    }

    #[test]
    fn a_fraction_is_chosen_evenly() {
        let reason = EndReason::Closed;
        for (fraction, expected) in
            [(0.0, 0..=0), (0.01, 800..=1_200), (0.5, 49_000..=51_000), (1.0, 100_000..=100_000)]
        {
            let filter = SliceFilter::none().fraction(fraction);
            let ids = (1..=100_000).map(RecordId::from_nonzero);
            let chosen = ids.filter(|id| {
                filter.choose(&RequestOutcome { id: *id, ..request(&reason) }) == Choice::Chosen
            });
            let count = chosen.count();
            assert!(expected.contains(&count), "{fraction}: {count}");
        }
        for invalid in [f64::NAN, -1.0] {
            assert_chosen(&SliceFilter::none().fraction(invalid), request(&reason), false);
        }
    }
}

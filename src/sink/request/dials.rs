//! The dials that begin because of a request.

use super::{extras::push_bounded, record::RequestRef};
use crate::sink::dial::group::DialGroup;
use std::sync::Arc;

impl RequestRef {
    /// Records that a dial began because of this request.
    pub(in crate::sink) fn caused_dial(&self, group: &Arc<DialGroup>) {
        let Some(mut links) = self.record.open_links() else { return };
        group.retain();
        if let Some(before) = links.dial.replace(group.clone()) {
            push_bounded(&mut links.extras_mut().dials, before, |oldest| oldest.release());
        }
    }

    /// Returns `true` if `group` is a dial that began because of this request.
    pub(in crate::sink) fn caused(&self, group: &DialGroup) -> bool {
        let trigger = group.dial.as_ref().and_then(|dial| dial.trigger);
        trigger == Some(self.record_id()) && self.is_of(&group.core)
    }
}

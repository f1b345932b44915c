//! [`AnswersBuilder`]: encodes the answers of a DNS reply as they are read.

use super::{
    answers::{Answers, NAME, SAME_NAME, SVCB, V4, V6},
    encoding::{AnswerText, V4_TEXT_BYTES, V6_TEXT_BYTES},
    svcb::SvcbParams,
};
use crate::record::limits::MAX_DNS_ANSWERS;
use smallvec::SmallVec;
use std::{net::IpAddr, ops::Range, sync::Arc};

/// The fields of an answer between its name and its data.
pub(crate) struct AnswerHead {
    pub(crate) record_type: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
}

/// The data of an answer.
pub(crate) enum AnswerValue<'a, N> {
    Address(IpAddr),
    /// Writes the name, in ASCII.
    Name(N),
    /// The data of an SVCB or HTTPS record. Writes its target, in ASCII.
    Svcb(SvcbParams<'a>, N),
    Other,
}

/// The kind of a value that is not kept.
const OTHER: u8 = 0;

/// Collects the answers of a reply, up to the limits.
pub(crate) struct AnswersBuilder {
    encoded: AnswerText,
    /// The place of the last answer's name.
    last_name: Range<usize>,
    count: usize,
    text_bytes: usize,
    max_text_bytes: usize,
}

impl AnswersBuilder {
    /// Adds an answer. `name` writes its name in ASCII. Returns `false` if the answer exceeds a limit: then no other is
    /// taken either.
    pub(crate) fn push<N: FnOnce(&mut AnswerText)>(
        &mut self,
        head: AnswerHead,
        name: impl FnOnce(&mut AnswerText),
        value: AnswerValue<'_, N>,
    ) -> bool {
        if self.count == MAX_DNS_ANSWERS {
            return false;
        }
        let before = self.encoded.len();
        let kind = match value {
            AnswerValue::Address(IpAddr::V4(_)) => V4,
            AnswerValue::Address(IpAddr::V6(_)) => V6,
            AnswerValue::Name(_) => NAME,
            AnswerValue::Svcb(..) => SVCB,
            AnswerValue::Other => OTHER,
        };
        self.encoded.push(kind);
        self.encoded.extend_from_slice(&head.record_type.to_be_bytes());
        self.encoded.extend_from_slice(&head.class.to_be_bytes());
        self.encoded.extend_from_slice(&head.ttl.to_be_bytes());
        let mut name = self.text(name);
        let mut text_bytes = self.text_bytes + name.len();
        if self.count > 0 && self.encoded[name.clone()] == self.encoded[self.last_name.clone()] {
            self.encoded.truncate(name.start - 2);
            self.encoded[before] |= SAME_NAME;
            name = self.last_name.clone();
        }
        match value {
            AnswerValue::Address(IpAddr::V4(address)) => {
                self.encoded.extend_from_slice(&address.octets());
                text_bytes += V4_TEXT_BYTES;
            }
            AnswerValue::Address(IpAddr::V6(address)) => {
                self.encoded.extend_from_slice(&address.octets());
                text_bytes += V6_TEXT_BYTES;
            }
            AnswerValue::Name(value) => text_bytes += self.text(value).len(),
            AnswerValue::Svcb(params, target) => {
                text_bytes += params.write(&mut self.encoded);
                text_bytes += self.text(target).len();
            }
            AnswerValue::Other => {}
        }
        if text_bytes > self.max_text_bytes {
            self.encoded.truncate(before);
            self.max_text_bytes = 0;
            return false;
        }
        (self.last_name, self.text_bytes) = (name, text_bytes);
        self.count += 1;
        true
    }

    /// Returns the answers. `original_count` is how many the reply has.
    pub(crate) fn finish(self, original_count: usize) -> Answers {
        let number = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Answers {
            encoded: (self.count > 0).then(|| Arc::from(&*self.encoded)),
            count: number(self.count),
            original_count: number(original_count),
            text_bytes: number(self.text_bytes),
        }
    }

    /// Writes a text after its length.
    fn text(&mut self, write: impl FnOnce(&mut AnswerText)) -> Range<usize> {
        let begin = self.encoded.len() + 2;
        self.encoded.extend_from_slice(&[0; 2]);
        write(&mut self.encoded);
        // A name in which every byte is escaped has a kilobyte.
        let len = u16::try_from(self.encoded.len() - begin).unwrap_or(u16::MAX);
        self.encoded.truncate(begin + usize::from(len));
        self.encoded[begin - 2..begin].copy_from_slice(&len.to_be_bytes());
        begin..begin + usize::from(len)
    }
}

impl Answers {
    /// Returns a builder that takes answers up to this many bytes of text.
    pub(super) fn builder(max_text_bytes: usize) -> AnswersBuilder {
        AnswersBuilder { encoded: SmallVec::new(), last_name: 0..0, count: 0, text_bytes: 0, max_text_bytes }
    }

    /// Returns about how many bytes of text the answers have in a trace.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::DnsResType;

    fn text(text: &str) -> impl FnOnce(&mut AnswerText) {
        |out| out.extend_from_slice(text.as_bytes())
    }

    fn push(
        builder: &mut AnswersBuilder,
        name: &str,
        record_type: u16,
        value: AnswerValue<'_, &str>,
    ) -> bool {
        let value = match value {
            AnswerValue::Address(address) => AnswerValue::Address(address),
            AnswerValue::Name(name) => AnswerValue::Name(text(name)),
            AnswerValue::Svcb(params, target) => AnswerValue::Svcb(params, text(target)),
            AnswerValue::Other => AnswerValue::Other,
        };
        builder.push(AnswerHead { record_type, class: 1, ttl: 60 }, text(name), value)
    }

    #[test]
    fn answers_are_kept_in_order() {
        let mut builder = Answers::builder(1000);
        let addresses: [IpAddr; 3] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into(), [0x20; 16].into()];
        assert!(push(&mut builder, "www.a.test.", 5, AnswerValue::Name("a.test.")));
        for address in addresses {
            assert!(push(&mut builder, "a.test.", 1, AnswerValue::Address(address)));
        }
        assert!(push(&mut builder, "b.test.", 16, AnswerValue::Other));
        assert!(push(&mut builder, "b.test.", 2, AnswerValue::Name("")));
        let answers = builder.finish(6);
        assert_eq!(answers.original_count(), None);
        let shown = answers.export();
        let shown: Vec<_> = shown.iter().map(|answer| (&*answer.name, &*answer.resolved_val)).collect();
        let last = "2020:2020:2020:2020:2020:2020:2020:2020";
        let [first, second] = ["192.0.2.1", "192.0.2.2"].map(|value| ("a.test.", value));
        let others = [("a.test.", last), ("b.test.", ""), ("b.test.", "")];
        assert_eq!(shown[..3], [("www.a.test.", "a.test."), first, second]);
        assert_eq!(shown[3..], others);
        let kinds: Vec<_> =
            answers.export().into_iter().map(|answer| (answer.r#type, answer.class, answer.ttl)).collect();
        assert_eq!(kinds[0], (DnsResType::Cname, 1, 60));
        assert_eq!(kinds[4].0, DnsResType::Txt);
        assert!(Answers::default().export().is_empty());
    }

    #[test]
    fn service_bindings_are_kept() {
        let params = SvcbParams {
            priority: 1,
            alpn: b"\x02h2\x03\xff-3",
            port: Some(8443),
            ipv4_hints: &[192, 0, 2, 1, 192, 0, 2, 2],
            ipv6_hints: &[0x20; 16],
            ech: true,
        };
        let alias = SvcbParams::default();
        let mut builder = Answers::builder(1000);
        assert!(push(&mut builder, "a.test.", 65, AnswerValue::Svcb(params, ".")));
        assert!(push(&mut builder, "a.test.", 64, AnswerValue::Svcb(alias, "svc.test.")));
        assert!(push(&mut builder, "a.test.", 1, AnswerValue::Address([192, 0, 2, 1].into())));
        let answers = builder.finish(3).export();
        assert_eq!(answers.iter().map(|answer| answer.type_code).collect::<Vec<_>>(), [65, 64, 0]);
        let svcb = answers[0].svcb.as_deref().unwrap();
        assert_eq!((svcb.priority, svcb.target.as_str(), svcb.port, svcb.ech), (1, ".", Some(8443), true));
        assert_eq!(svcb.alpn, ["h2", "\\xff-3"]);
        assert_eq!(svcb.ipv4_hints, ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(svcb.ipv6_hints, ["2020:2020:2020:2020:2020:2020:2020:2020"]);
        let svcb = answers[1].svcb.as_deref().unwrap();
        assert_eq!((svcb.priority, svcb.target.as_str(), svcb.port, svcb.ech), (0, "svc.test.", None, false));
        assert_eq!(answers[2].resolved_val, "192.0.2.1");

        let hints = [1; 4 * 100];
        let mut builder = Answers::builder(1000);
        let many = SvcbParams { ipv4_hints: &hints, ..params };
        assert!(!push(&mut builder, "a.test.", 65, AnswerValue::Svcb(many, ".")), "too much text");
    }

    #[test]
    fn answers_are_limited_in_number_and_text() {
        let mut builder = Answers::builder(1 << 20);
        let taken = (0..1000).filter(|_| push(&mut builder, "a.", 16, AnswerValue::Other)).count();
        assert_eq!(taken, MAX_DNS_ANSWERS);
        let answers = builder.finish(1000);
        assert_eq!((answers.export().len(), answers.original_count()), (MAX_DNS_ANSWERS, Some(1000)));

        let mut builder = Answers::builder(100);
        let long = "x".repeat(30);
        assert!(push(&mut builder, &long, 5, AnswerValue::Name(&long)));
        assert!(!push(&mut builder, &long, 5, AnswerValue::Name(&long)));
        assert!(!push(&mut builder, "", 16, AnswerValue::Other), "only the first answers are kept");
        let answers = builder.finish(3);
        assert_eq!((answers.export().len(), answers.original_count()), (1, Some(3)));
        assert_eq!(answers.text_bytes(), 60);
    }
}

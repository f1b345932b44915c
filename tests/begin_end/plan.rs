//! What happens in one run: trees of requests and dials, and a schedule of what is done to them.

use proptest::{collection::vec, prelude::*, sample::Index};

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) requests: Vec<Request>,
    pub(crate) steps: Vec<Step>,
    /// Whether all is polled to its end before the rest is dropped.
    pub(crate) drain: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Poll(Index),
    Drop(Index),
    /// Lets others do their work for so many milliseconds.
    Wait(u16),
    Look,
    Enable(bool),
    Clear,
    Close,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) pauses: u8,
    /// It is the next hop of the request before it.
    pub(crate) follows: bool,
    /// It first takes a connection that an earlier one left over.
    pub(crate) reuses: bool,
    pub(crate) dials: Vec<Dial>,
    /// At the same time, rather than one after the other.
    pub(crate) together: bool,
    pub(crate) upload: Vec<Frame>,
    pub(crate) taken: usize,
    pub(crate) answer: Answer,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Fails,
    Body { frames: Vec<Frame>, read: usize },
}

#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Data(u16),
    Pause,
    Trailers,
    Fails,
}

#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) by: By,
    pub(crate) tls: Option<Limit>,
    /// It is begun here, and goes on by itself.
    pub(crate) detached: bool,
    /// The request fails with it.
    pub(crate) needed: bool,
    pub(crate) use_of_it: Vec<Use>,
    pub(crate) afterwards: Afterwards,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    None,
    Millis(u16),
}

#[derive(Clone, Debug)]
pub(crate) enum By {
    /// A connector that knows nothing of this crate.
    Foreign {
        pauses: u8,
        fails: bool,
        reads: Vec<Read>,
    },
    Tcp {
        names: Names,
        hosts: Vec<Host>,
        limit: Limit,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// The first host by its address.
    Literal,
    Foreign {
        pauses: u8,
        fails: bool,
    },
    Stub(Nameserver),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Host {
    Echoing,
    HangingUp,
    Refusing,
    Silent,
    Secured,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Nameserver {
    Answering,
    Truncating,
    KnowingNothing,
    Failing,
    Silent,
    Missing,
}

/// What a stream of a foreign connector gives, and then its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    Data(u16),
    Pause,
    Never,
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Write(u16),
    Read,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Afterwards {
    Drop,
    GoesWithBody,
    LeftOver,
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let steps = prop_oneof![
        60 => any::<Index>().prop_map(Step::Poll),
        8 => any::<Index>().prop_map(Step::Drop),
        20 => prop_oneof![Just(0_u16), 0_u16..100, 0_u16..6_000].prop_map(Step::Wait),
        8 => Just(Step::Look),
        2 => any::<bool>().prop_map(Step::Enable),
        1 => Just(Step::Clear),
        1 => Just(Step::Close),
    ];
    (vec(request(), 1..6), vec(steps, 0..80), any::<bool>()).prop_map(|(requests, steps, drain)| Plan {
        requests,
        steps,
        drain,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let answer = prop_oneof![
        1 => Just(Answer::Fails),
        8 => (frames(), 0_usize..8).prop_map(|(frames, read)| Answer::Body { frames, read }),
    ];
    let dials = vec(dial(), 0..3);
    (0_u8..3, prop::bool::weighted(0.3), any::<bool>(), dials, any::<bool>(), frames(), 0_usize..4, answer)
        .prop_map(|(pauses, follows, reuses, dials, together, upload, taken, answer)| Request {
            pauses,
            follows,
            reuses,
            dials,
            together,
            upload,
            taken,
            answer,
        })
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let frame = prop_oneof![
        12 => (0_u16..5_000).prop_map(Frame::Data),
        6 => Just(Frame::Pause),
        2 => Just(Frame::Trailers),
        1 => Just(Frame::Fails),
    ];
    vec(frame, 0..5)
}

fn dial() -> impl Strategy<Value = Dial> {
    let foreign = (0_u8..3, prop::bool::weighted(0.2), vec(read(), 0..5))
        .prop_map(|(pauses, fails, reads)| By::Foreign { pauses, fails, reads });
    let tcp = (names(), vec(host(), 1..5), limit()).prop_map(|(names, hosts, limit)| By::Tcp {
        names,
        hosts,
        limit,
    });
    let tls = prop::option::weighted(0.4, limit());
    let use_of_it = vec(prop_oneof![(0_u16..2_000).prop_map(Use::Write), Just(Use::Read)], 0..5);
    let afterwards =
        prop_oneof![Just(Afterwards::Drop), Just(Afterwards::GoesWithBody), Just(Afterwards::LeftOver)];
    let dial =
        (prop_oneof![foreign, tcp], tls, prop::bool::weighted(0.2), any::<bool>(), use_of_it, afterwards);
    dial.prop_map(|(by, tls, detached, needed, use_of_it, afterwards)| Dial {
        by,
        tls,
        detached,
        needed,
        use_of_it,
        afterwards,
    })
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![Just(Limit::None), (1_u16..5_000).prop_map(Limit::Millis)]
}

fn names() -> impl Strategy<Value = Names> {
    use Nameserver::*;
    let nameserver = prop_oneof![
        3 => Just(Answering),
        1 => Just(Truncating),
        1 => Just(KnowingNothing),
        1 => Just(Failing),
        1 => Just(Silent),
        1 => Just(Missing),
    ];
    prop_oneof![
        Just(Names::Literal),
        (0_u8..3, prop::bool::weighted(0.2)).prop_map(|(pauses, fails)| Names::Foreign { pauses, fails }),
        nameserver.prop_map(Names::Stub),
    ]
}

fn host() -> impl Strategy<Value = Host> {
    use Host::*;
    prop_oneof![
        2 => Just(Echoing),
        1 => Just(HangingUp),
        1 => Just(Refusing),
        1 => Just(Silent),
        2 => Just(Secured),
    ]
}

fn read() -> impl Strategy<Value = Read> {
    use Read::*;
    prop_oneof![4 => any::<u16>().prop_map(Data), 2 => Just(Pause), 1 => Just(Never), 1 => Just(Reset)]
}

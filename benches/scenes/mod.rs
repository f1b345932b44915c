//! The scenes: all work whose time (`recording.rs`) and instructions (`instructions.rs`) are measured. A new scene is a
//! line in the `scenes` function of its module.

mod conn;
mod events;
mod http;
mod layers;
mod loopback;
mod observed;
mod op;
#[cfg(target_os = "linux")]
mod probes;
mod server;
mod tonic;
mod trace;

pub struct Scene {
    pub name: String,
    pub prepare: Box<dyn Fn() -> Box<dyn Work>>,
    /// Whether its instructions are compared with the stored ones.
    pub is_guarded: bool,
    /// Whether fewer repetitions are counted, because each takes tens of thousands of instructions.
    pub is_long: bool,
}

/// Work that is prepared once and measured repeatedly.
pub trait Work {
    /// Returns the maximum number of repetitions in one measurement.
    fn most(&self) -> u64 {
        u64::MAX
    }

    /// Prepares `times` repetitions. Not measured.
    fn ready(&mut self, _times: u64) {}

    /// Does the work `times` times. Measured.
    fn run(&mut self, times: u64);

    /// Drops the results. Not measured.
    fn tidy(&mut self) {}
}

pub fn all() -> Vec<Scene> {
    let scenes = [
        op::scenes(),
        http::scenes(),
        layers::scenes(),
        observed::scenes(),
        tonic::scenes(),
        events::scenes(),
        server::scenes(),
        conn::scenes(),
        #[cfg(target_os = "linux")]
        probes::scenes(),
        trace::scenes(),
    ];
    scenes.into_iter().flatten().collect()
}

/// Does the work `times` times, in as few calls of `measure` as possible.
pub fn run_in_batches(work: &mut dyn Work, times: u64, mut measure: impl FnMut(&mut dyn FnMut())) {
    let mut left = times;
    while left > 0 {
        let batch = left.min(work.most());
        work.ready(batch);
        measure(&mut || work.run(batch));
        work.tidy();
        left -= batch;
    }
}

impl Scene {
    fn new<W: Work + 'static>(name: impl Into<String>, prepare: impl Fn() -> W + 'static) -> Self {
        let prepare = Box::new(move || Box::new(prepare()) as Box<dyn Work>);
        Scene { name: name.into(), prepare, is_guarded: true, is_long: false }
    }

    /// Reduces the repetitions that are counted.
    fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    /// Leaves the scene out of the guard: it does not use nettrace, or takes minutes under valgrind.
    fn unguarded(mut self) -> Self {
        self.is_guarded = false;
        self
    }
}

/// Work that takes nanoseconds and can be repeated any number of times.
struct Again<F>(F);

impl<F: FnMut()> Work for Again<F> {
    fn run(&mut self, times: u64) {
        (0..times).for_each(|_| (self.0)());
    }
}

/// Work that consumes a value. Neither `make` nor the drop of the values is measured.
struct Each<T, M, F> {
    make: M,
    take: F,
    made: Vec<T>,
}

impl<T, M: FnMut() -> T, F: FnMut(&mut T)> Each<T, M, F> {
    fn new(make: M, take: F) -> Self {
        Each { make, take, made: Vec::new() }
    }
}

impl<T, M: FnMut() -> T, F: FnMut(&mut T)> Work for Each<T, M, F> {
    fn most(&self) -> u64 {
        256
    }

    fn ready(&mut self, times: u64) {
        self.made.extend((0..times).map(|_| (self.make)()));
    }

    fn run(&mut self, _: u64) {
        self.made.iter_mut().for_each(&mut self.take);
    }

    fn tidy(&mut self) {
        self.made.clear();
    }
}

/// Slow work, one repetition per measurement. The drop of its result is not measured.
struct Whole<T, F> {
    give: F,
    given: Option<T>,
}

impl<T, F: FnMut() -> T> Whole<T, F> {
    fn new(give: F) -> Self {
        Whole { give, given: None }
    }
}

impl<T, F: FnMut() -> T> Work for Whole<T, F> {
    fn most(&self) -> u64 {
        1
    }

    fn run(&mut self, _: u64) {
        self.given = Some((self.give)());
    }

    fn tidy(&mut self) {
        self.given = None;
    }
}

/// Returns the output of a future that never waits.
#[track_caller]
fn now<F: Future>(future: F) -> F::Output {
    futures_util::FutureExt::now_or_never(future).expect("nothing here waits")
}

//! Switches recording, and the capture of packets, on and off.

use crate::sink::TraceSink;

/// Whether something is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwitchState {
    On,
    Off,
    /// It cannot be switched: the sink is closed or was never to record, or it has no capture.
    Fixed,
}

impl SwitchState {
    fn of(on: bool) -> Self {
        if on { SwitchState::On } else { SwitchState::Off }
    }
}

/// Something that can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    Recording,
    Capture,
}

impl Switch {
    pub(super) const ALL: [Switch; 2] = [Switch::Recording, Switch::Capture];

    /// Returns the name in paths and in texts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Switch::Recording => "recording",
            Switch::Capture => "capture",
        }
    }

    pub(super) fn state(self, sink: &TraceSink) -> SwitchState {
        match self {
            Switch::Recording if !sink.may_record() => SwitchState::Fixed,
            Switch::Recording => SwitchState::of(sink.is_enabled()),
            #[cfg(all(unix, feature = "capture"))]
            Switch::Capture => sink.is_capture_enabled().map_or(SwitchState::Fixed, SwitchState::of),
            #[cfg(not(all(unix, feature = "capture")))]
            Switch::Capture => SwitchState::Fixed,
        }
    }

    /// Switches it.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be switched.
    pub(super) fn set(self, sink: &TraceSink, on: bool) -> Result<(), &'static str> {
        match (self, self.state(sink)) {
            (Switch::Recording, SwitchState::Fixed) => {
                Err("the sink is closed or disabled for good: create another one to record")
            }
            (Switch::Capture, SwitchState::Fixed) => {
                Err("nothing captures packets: give the sink a CaptureProbe, and do not stop it")
            }
            (Switch::Recording, SwitchState::On | SwitchState::Off) => {
                sink.set_enabled(on);
                Ok(())
            }
            (Switch::Capture, SwitchState::On | SwitchState::Off) => {
                #[cfg(all(unix, feature = "capture"))]
                sink.set_capture_enabled(on);
                Ok(())
            }
        }
    }
}

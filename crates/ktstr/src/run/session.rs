//! One conversation with a running machine, from its first instruction to the last message.

use std::time::Duration;

use ktstr_guest::protocol::{Job, ToGuest, ToHost};
use ktstr_machine::{Halt, Machine, MachineError, MailboxRegion};
use ktstr_mailbox::{Full, Reader, Ring, RingError, Writer, is_ready};

use super::captures::{Captures, Knowledge};
use super::transcript::Transcript;
use super::watch::Watch;
use crate::vm_result::{GuestLifecyclePhase, WatchdogKillReason};

/// How often the host looks at the mailbox.
const POLL: Duration = Duration::from_millis(1);
/// Messages taken in at a look: a guest that floods the mailbox must not keep the host from
/// its other duties.
const BURST: usize = 256;
/// Guest time a boot may be silent for; each CPU adds its share.
const BOOT_PATIENCE: Duration = Duration::from_secs(60);
const BOOT_PATIENCE_PER_CPU: Duration = Duration::from_secs(4);
/// Guest time a scheduler may take to attach; PID 1 gives up before.
const ATTACH_PATIENCE: Duration = Duration::from_secs(150);

/// How a conversation ended.
#[derive(Debug)]
pub(super) enum End {
    /// The guest said all it had to say.
    Bye,
    /// The guest went down by itself.
    Halted(Halt),
    /// The host gave up.
    GaveUp(WatchdogKillReason),
    /// What is in the mailbox makes no sense.
    Garbled(RingError),
}

/// What the host needs to hold a conversation.
pub(super) struct Session<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) job: &'a Job,
    pub(super) captures: &'a mut Captures,
    pub(super) knowledge: &'a mut Knowledge,
    /// The test's window and its stall timeout: guest time that may pass in silence.
    pub(super) silence: Duration,
    pub(super) watch: Watch,
    pub(super) vcpus: u32,
}

impl Session<'_> {
    /// Lets the machine run and talks to it until it ends. An error means that QEMU is gone.
    pub(super) fn hold(&mut self, transcript: &mut Transcript) -> Result<End, MachineError> {
        let mut agent = Reader::new(Ring::Agent);
        let mut test = Reader::new(Ring::Test);
        let mut ready = false;
        let mut next_check = Duration::ZERO;
        self.machine.run()?;
        loop {
            let halted = self.machine.halt()?;
            if !ready && is_ready(&MailboxRegion(self.machine.ram()))? {
                ready = true;
                self.post_job()?;
            }
            if ready {
                // The test's ring is read after PID 1's: when that says that the test has
                // ended, everything the test said is there.
                for reader in [&mut agent, &mut test] {
                    if let Err(error) = self.drain(reader, transcript) {
                        return Ok(End::Garbled(error));
                    }
                }
            }
            if transcript.bye {
                return Ok(End::Bye);
            }
            if let Some(halt) = halted {
                return Ok(End::Halted(halt));
            }
            self.capture(transcript)?;
            let now = self.machine.running_time();
            if now >= next_check {
                next_check = now + Duration::from_millis(250);
                if let Some(reason) = self.silence(transcript, &agent, &test) {
                    return Ok(End::GaveUp(reason));
                }
            }
            std::thread::sleep(POLL);
        }
    }

    fn post_job(&mut self) -> Result<(), MachineError> {
        let bytes = serde_json::to_vec(&ToGuest::Job(self.job.clone()))
            .map_err(|e| MachineError::system("describing the job", std::io::Error::other(e)))?;
        let region = MailboxRegion(self.machine.ram());
        match Writer::new(Ring::Host).write(&region, &bytes, 0) {
            Ok(()) => Ok(()),
            Err(Full::Memory(error)) => Err(error),
            Err(full) => Err(MachineError::system(
                "posting the job",
                std::io::Error::other(full.to_string()),
            )),
        }
    }

    fn drain(&self, reader: &mut Reader, transcript: &mut Transcript) -> Result<(), RingError> {
        let region = MailboxRegion(self.machine.ram());
        for _ in 0..BURST {
            let Some(message) = reader.next(&region)? else {
                break;
            };
            let now = self.machine.running_time();
            match serde_json::from_slice::<ToHost>(&message.bytes) {
                Ok(message) => transcript.take(message, now),
                Err(error) => transcript.take(
                    ToHost::HarnessError {
                        message: format!("a message of the guest makes no sense: {error}"),
                    },
                    now,
                ),
            }
        }
        Ok(())
    }

    fn capture(&mut self, transcript: &Transcript) -> Result<(), MachineError> {
        let Some(elapsed) = transcript.window.elapsed(self.machine.running_time()) else {
            return Ok(());
        };
        if self.captures.due_in(elapsed) == Some(Duration::ZERO) {
            self.captures
                .take(self.machine, self.knowledge, elapsed, transcript.step_index)?;
        }
        Ok(())
    }

    fn silence(
        &mut self,
        transcript: &Transcript,
        agent: &Reader,
        test: &Reader,
    ) -> Option<WatchdogKillReason> {
        let patience = match transcript.phase {
            GuestLifecyclePhase::Boot => BOOT_PATIENCE + BOOT_PATIENCE_PER_CPU * self.vcpus,
            GuestLifecyclePhase::Attach => ATTACH_PATIENCE,
            _ => self.silence,
        };
        let progress = agent.position() + test.position() + transcript.count;
        let cpu = self.machine.cpu_time()?;
        self.watch.check(progress, cpu, patience)
    }
}

//! Locks, condition variables, barriers, semaphores and timers that workers of any cgroup or process share by name.
//!
//! They are in a hash table in the memory that all workers of a scenario share. A worker finds an object by a hash of its kind
//! and its name, and the first worker that looks for it takes the next free slot for it. Nothing here allocates or panics.
//!
//! An object whose workers have all ended keeps its slot, but is reset before other workers use it: see [`renew`].

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::shared::Zeroed;
use super::sys;

/// The largest number of objects in a scenario.
pub const MAX_OBJECTS: usize = 4096;
/// The number of release times that an object keeps.
const STAMPS: usize = 8;

/// The kind of an object. Objects of different kinds may have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A lock, whose word is 0 when free, 1 when held, and 2 when held and contended.
    Lock,
    /// A lock whose holder inherits the priority of its waiters. Its word has the format of the kernel's `FUTEX_LOCK_PI`.
    PiLock,
    /// A condition variable: a queue of workers that wait until another worker signals it.
    Condition,
    /// A queue of workers that wait until the last of them has come.
    Barrier,
    /// A semaphore, whose word is its count.
    Semaphore,
    /// A timer that workers share.
    Timer,
    /// A timer that only the worker with this thread id uses.
    OwnTimer(i32),
    /// The lock for one CPU that the members of one group share; see [`Kind::of_cpu`].
    CpuLock(u32),
}

impl Kind {
    /// Returns the kind of the lock for `cpu` in the group whose first member has this thread id. Both numbers fit into 32 bits
    /// together: the kernel has fewer than 2^22 thread ids (`PID_MAX_LIMIT`), and workers run on the first 1024 CPUs.
    pub fn of_cpu(cpu: u32, first: i32) -> Self {
        Self::CpuLock(cpu << 22 | first as u32 & ((1 << 22) - 1))
    }
}

/// One object. What its words mean depends on its kind.
#[repr(C)]
#[derive(Debug)]
pub struct Object {
    /// The hash of kind and name; 0 while the slot is free.
    key: AtomicU64,
    /// The word of a lock, the count of a semaphore, or the number of waiters that a queue has released. This is a futex.
    pub word: AtomicU32,
    /// The number of waiters that have come to a queue. The place of a waiter is this number as it was before the waiter came.
    pub came: AtomicU32,
    /// The monotonic time in ns at which a timer's next period begins; 0 before its first use.
    pub next_ns: AtomicU64,
    /// Monotonic times in ns. For a lock or a semaphore, the first is the time of the last release. For a queue, the release
    /// time of the waiter at place `p` has the index `p % STAMPS`.
    stamps: [AtomicU64; STAMPS],
}

/// All objects of a scenario.
pub type Objects = [Object; MAX_OBJECTS];

// SAFETY: repr(C), atomics only.
unsafe impl Zeroed for Object {}

/// Returns the object of this kind and name, or `None` if other objects have taken all slots.
pub fn find<'a>(objects: &'a Objects, kind: Kind, name: &str) -> Option<&'a Object> {
    let key = hash(kind, name);
    slots(objects, key).find(
        |object| match object.key.compare_exchange(0, key, Relaxed, Relaxed) {
            Ok(_) => true,
            Err(there) => there == key,
        },
    )
}

/// Returns the slots in the order in which they are searched for the object with this key.
fn slots(objects: &Objects, key: u64) -> impl Iterator<Item = &Object> {
    let (before, after) = objects.split_at(key as usize % MAX_OBJECTS);
    after.iter().chain(before)
}

/// Returns the key of the object of this kind and name.
pub fn key(kind: Kind, name: &str) -> u64 {
    hash(kind, name)
}

/// Resets the object with this key to its first state, if there is one. Call this only when no worker that may use it is left.
pub fn renew(objects: &Objects, key: u64) {
    let mut used = slots(objects, key).take_while(|object| object.key.load(Relaxed) != 0);
    if let Some(object) = used.find(|object| object.key.load(Relaxed) == key) {
        object.renew();
    }
}

/// Returns the FNV-1a hash (Fowler, Noll and Vo) of the kind and the name; it is never 0. About one in 10^12 scenarios with
/// 4096 names has two names with the same hash.
fn hash(kind: Kind, name: &str) -> u64 {
    let kind: [u8; 5] = match kind {
        Kind::Lock => *b"lock.",
        Kind::PiLock => *b"pilck",
        Kind::Condition => *b"cond.",
        Kind::Barrier => *b"barr.",
        Kind::Semaphore => *b"sema.",
        Kind::Timer => *b"timer",
        Kind::OwnTimer(tid) => {
            let [a, b, c, d] = tid.to_ne_bytes();
            [b'o', a, b, c, d]
        }
        Kind::CpuLock(number) => {
            let [a, b, c, d] = number.to_ne_bytes();
            [b'c', a, b, c, d]
        }
    };
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let bytes = kind.into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, fold).max(1)
}

impl Object {
    fn renew(&self) {
        let Self {
            key: _,
            word,
            came,
            next_ns,
            stamps,
        } = self;
        word.store(0, Release);
        came.store(0, Release);
        for time in stamps.iter().chain([next_ns]) {
            time.store(0, Release);
        }
    }

    /// Returns the slot for the time at which the waiter at this place of a queue is released. Locks and semaphores use place 0.
    fn stamp(&self, of: u32) -> &AtomicU64 {
        let [first, rest @ ..] = &self.stamps;
        let at = of as usize % STAMPS;
        rest.get(at.wrapping_sub(1)).unwrap_or(first)
    }

    /// Records the current time as the time of the release.
    pub fn stamp_release(&self) {
        self.stamp(0).store(sys::now_ns(), Relaxed);
    }

    /// Returns the monotonic time of the last release in ns; 0 if there was none.
    pub fn released_ns(&self) -> u64 {
        self.stamp(0).load(Relaxed)
    }

    /// Takes the place at the end of the queue, and returns its number.
    pub fn queue(&self) -> u32 {
        self.came.fetch_add(1, AcqRel)
    }

    /// Waits until `place` is released. Returns the monotonic time in ns at which this happened, or `None` if `stopped`
    /// returns `true` first. If other places have been released since, the returned time may be that of a later release.
    pub fn wait(&self, place: u32, stopped: impl Fn() -> bool) -> Option<u64> {
        loop {
            let gone = self.word.load(Acquire);
            if passed(gone, place) {
                return Some(self.stamp(place).load(Relaxed));
            }
            if stopped() {
                return None;
            }
            sys::futex_wait_as(&self.word, gone, bit(place));
        }
    }

    /// Lets the first waiter go, if there is one. Returns whether there was one.
    pub fn let_one_go(&self) -> bool {
        let mut gone = self.word.load(Acquire);
        loop {
            if gone == self.came.load(Acquire) {
                return false;
            }
            self.stamp(gone).store(sys::now_ns(), Relaxed);
            let next = gone.wrapping_add(1);
            match self.word.compare_exchange(gone, next, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => gone = now,
            }
        }
        // Other waiters with the same bit wake up too, find that their place was not released, and wait again.
        sys::futex_wake_those(&self.word, bit(gone));
        true
    }

    /// Releases all waiters whose place is before `end`.
    pub fn let_go_before(&self, end: u32) {
        let now = sys::now_ns();
        for stamp in &self.stamps {
            stamp.store(now, Relaxed);
        }
        let mut gone = self.word.load(Acquire);
        while !passed(gone, end.wrapping_sub(1)) {
            match self.word.compare_exchange(gone, end, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => gone = now,
            }
        }
        sys::futex_wake_those(&self.word, u32::MAX);
    }

    /// Releases all waiters that have come so far.
    pub fn let_all_go(&self) {
        let end = self.came.load(Acquire);
        if end != self.word.load(Acquire) {
            self.let_go_before(end);
        }
    }

    /// Adds one to the semaphore, and wakes one waiter.
    pub fn post(&self) {
        self.stamp_release();
        self.word.fetch_add(1, Release);
        sys::futex_wake(&self.word, 1);
    }

    /// Waits while the semaphore is 0, and then subtracts one from it. Returns whether this had to wait, or `None` if `stopped`
    /// returns `true` first.
    pub fn take(&self, stopped: impl Fn() -> bool) -> Option<bool> {
        let mut waited = false;
        loop {
            let count = self.word.load(Acquire);
            let Some(less) = count.checked_sub(1) else {
                if stopped() {
                    return None;
                }
                sys::futex_wait(&self.word, 0);
                waited = true;
                continue;
            };
            if (self.word.compare_exchange(count, less, AcqRel, Relaxed)).is_ok() {
                return Some(waited);
            }
        }
    }

    /// Goes on to the timer's next period, and returns the monotonic time in ns at which this period ends. The period starts
    /// where the previous one ended; the first period starts at `first_ns`.
    pub fn next_period(&self, first_ns: u64, period: u64) -> u64 {
        let add = |next: u64| {
            let from = if next == 0 { first_ns } else { next };
            from.wrapping_add(period).max(1)
        };
        let mut before = self.next_ns.load(Relaxed);
        loop {
            let next = add(before);
            match (self.next_ns).compare_exchange(before, next, Relaxed, Relaxed) {
                Ok(_) => return next,
                Err(now) => before = now,
            }
        }
    }
}

/// Returns whether `place` is one of the first `gone` places. Both numbers wrap around.
fn passed(gone: u32, place: u32) -> bool {
    gone.wrapping_sub(place).wrapping_sub(1) < 1 << 31
}

/// Returns the bit of the futex's mask by which the waiter at this place is woken.
fn bit(place: u32) -> u32 {
    1 << (place % 32)
}

#[cfg(test)]
mod tests {
    use super::super::shared::{PhasePage, Shared};
    use super::*;

    #[test]
    fn one_name_is_one_object_of_each_kind() {
        let page = Shared::<PhasePage>::new().expect("memory");
        let at = |kind, name: &str| {
            let found = find(&page.objects, kind, name).expect("room");
            std::ptr::from_ref(found)
        };
        assert_eq!(at(Kind::Lock, "a"), at(Kind::Lock, "a"));
        let mut all = vec![
            at(Kind::Lock, "a"),
            at(Kind::Lock, "b"),
            at(Kind::PiLock, "a"),
            at(Kind::Condition, "a"),
            at(Kind::Barrier, "a"),
            at(Kind::Semaphore, "a"),
            at(Kind::Timer, "a"),
            at(Kind::OwnTimer(7), "a"),
            at(Kind::OwnTimer(8), "a"),
            at(Kind::of_cpu(0, 7), "a"),
            at(Kind::of_cpu(1, 7), "a"),
            at(Kind::of_cpu(1, 8), "a"),
        ];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12);
        // New names fill the rest of the table, and then none is accepted any more.
        let taken = (0..MAX_OBJECTS).filter(|n| {
            let found = find(&page.objects, Kind::Lock, &format!("more {n}"));
            found.is_some()
        });
        assert_eq!(taken.count(), MAX_OBJECTS - 12);
        assert!(find(&page.objects, Kind::Lock, "one more").is_none());
        assert!(find(&page.objects, Kind::Lock, "b").is_some());
    }

    #[test]
    fn waiters_go_in_their_order_and_a_signal_without_a_waiter_is_lost() {
        let page = Shared::<PhasePage>::new().expect("memory");
        let queue = find(&page.objects, Kind::Condition, "q").expect("room");
        assert!(!queue.let_one_go(), "nobody waits");
        let (first, second, third) = (queue.queue(), queue.queue(), queue.queue());
        assert!(queue.let_one_go());
        let goes = |place| queue.wait(place, || true).is_some();
        assert!(goes(first) && !goes(second) && !goes(third));
        queue.let_all_go();
        assert!(goes(second) && goes(third));
        let late = queue.queue();
        assert!(!goes(late));
    }

    #[test]
    fn an_object_without_workers_becomes_new() {
        let page = Shared::<PhasePage>::new().expect("memory");
        let of = |kind| find(&page.objects, kind, "x").expect("room");
        renew(&page.objects, key(Kind::Lock, "nothing of this name"));
        of(Kind::Barrier).queue();
        of(Kind::Condition).queue();
        assert!(of(Kind::Condition).let_one_go());
        of(Kind::Semaphore).post();
        of(Kind::Timer).next_period(100, 10);
        of(Kind::Lock).word.store(1, Release);
        for kind in [Kind::Barrier, Kind::Condition, Kind::Timer, Kind::Lock] {
            renew(&page.objects, key(kind, "x"));
        }
        assert_eq!(of(Kind::Barrier).queue(), 0);
        assert_eq!(of(Kind::Condition).queue(), 0);
        assert_eq!(of(Kind::Condition).wait(0, || true), None);
        assert_eq!(of(Kind::Timer).next_period(500, 10), 510);
        assert_eq!(of(Kind::Lock).word.load(Acquire), 0);
        let kept = of(Kind::Semaphore).take(|| true);
        assert_eq!(kept, Some(false), "the semaphore was not reset");
    }

    #[test]
    fn places_wrap_around() {
        assert!(passed(1, 0) && !passed(0, 0));
        assert!(passed(0, u32::MAX) && !passed(u32::MAX, u32::MAX));
        assert!(passed(3, u32::MAX - 2) && !passed(u32::MAX - 2, 3));
    }

    #[test]
    fn a_semaphore_counts_its_posts() {
        let page = Shared::<PhasePage>::new().expect("memory");
        let semaphore = find(&page.objects, Kind::Semaphore, "s").expect("room");
        semaphore.post();
        semaphore.post();
        assert_eq!(semaphore.take(|| true), Some(false));
        assert_eq!(semaphore.take(|| true), Some(false));
        assert_eq!(semaphore.take(|| true), None);
    }

    #[test]
    fn a_timer_goes_on_from_its_last_period() {
        let page = Shared::<PhasePage>::new().expect("memory");
        let timer = find(&page.objects, Kind::Timer, "t").expect("room");
        assert_eq!(timer.next_period(100, 10), 110);
        assert_eq!(timer.next_period(100, 20), 130);
    }
}

//! A skeleton for a microcontroller, in the manner of RTIC or embassy: an Ethernet interrupt and a network task, with
//! two queues between them. It runs on the host too, where [`board`] plays the hardware.
//!
//! ```text
//! cargo run --example rtic_skeleton
//! ```
//! To use it, keep [`app`] and replace [`board`] by your HAL:
//!
//! | here | on a Cortex-M |
//! | --- | --- |
//! | [`app::ethernet`] | `#[task(binds = ETH, local = [...])]` of RTIC, `#[interrupt] fn ETH()` otherwise |
//! | [`app::network`] | RTIC's `#[idle]`, the thread mode of an application without an executor |
//! | [`app::network_async`] | an `async` task of RTIC 2 or embassy; `WAKER` is embassy's `AtomicWaker` |
//! | [`board::wait_for_event`] | `cortex_m::asm::wfe()` |
//! | [`board::pend_ethernet`] | `NVIC::pend(Interrupt::ETH)` |
//!
//! The sticky event of the idle protocol is there in hardware: the event register, which each return from an exception
//! sets and `WFE` takes. So an interrupt between the task's second look and its `WFE` makes that return at once. After
//! `WFI` instead it would have come too early, unless interrupts were masked for the look.
//!
//! Nothing here masks an interrupt, and nothing needs a compare-and-swap: a Cortex-M0 has none.
#![expect(unsafe_code, reason = "buffers that pass from one side to the other")]

/// The application: `no_std`, static, nothing but `shmqueue` and the board.
mod app {
    use core::{
        cell::UnsafeCell,
        future::poll_fn,
        ops::ControlFlow,
        sync::atomic::AtomicU32,
        task::{Poll, Waker},
    };

    use shmqueue::{
        DualQueue, InConsumer, InProducer, Item, Links, OutConsumer, OutProducer, PeerMisbehaviour,
        queue::{self, Consume, Drain, Produce, WaitFree},
    };

    use super::board;

    pub const BUFFERS: usize = 16;

    /// In RAM that the DMA of the MAC reaches.
    pub struct Buffers {
        links: [AtomicU32; BUFFERS],
        frames: [UnsafeCell<[u8; 64]>; BUFFERS],
    }

    // SAFETY: a frame is reached by `frame` only, through the item; the queues pass the item, and order the accesses.
    unsafe impl Sync for Buffers {}

    impl Buffers {
        /// The frame of `item`, which the caller was given.
        pub fn frame<T>(&self, item: Item, work: impl FnOnce(&mut [u8; 64]) -> T) -> Option<T> {
            // SAFETY: whoever has the item has the frame: each item came off one queue, once.
            Some(work(unsafe { &mut *self.frames.get(item.get() as usize - 1)?.get() }))
        }
    }

    impl Links for Buffers {
        fn next(&self, item: Item) -> Option<&AtomicU32> {
            self.links.get(item.get() as usize - 1)
        }
    }

    static BUFFERS_IN_RAM: Buffers = Buffers {
        links: [const { AtomicU32::new(0) }; BUFFERS],
        frames: [const { UnsafeCell::new([0; 64]) }; BUFFERS],
    };
    static RECEIVED: DualQueue = DualQueue::new();
    static RETURNED: DualQueue = DualQueue::new();

    /// What the interrupt handler owns (`#[local]` of RTIC). Its ends cannot wait: the bounds say so.
    pub struct EthernetLocal<P, C> {
        received: P,
        returned: C,
        free: [Option<Item>; BUFFERS],
        pub dropped: u32,
    }

    /// What the task owns.
    pub struct NetworkLocal {
        received: InConsumer<'static, &'static Buffers>,
        returned: OutProducer<'static, &'static Buffers>,
        pub bytes: u32,
        pub frames: u32,
    }

    pub type Ethernet =
        EthernetLocal<InProducer<'static, &'static Buffers>, OutConsumer<'static, &'static Buffers>>;

    /// `#[init]`: makes the four ends, once, before the interrupt is enabled.
    pub fn init() -> (Ethernet, NetworkLocal) {
        let ethernet = EthernetLocal {
            received: InProducer::new(&RECEIVED, &BUFFERS_IN_RAM),
            returned: OutConsumer::new(&RETURNED, &BUFFERS_IN_RAM),
            free: core::array::from_fn(|n| Item::new(n as u32 + 1)),
            dropped: 0,
        };
        let network = NetworkLocal {
            received: InConsumer::new(&RECEIVED, &BUFFERS_IN_RAM),
            returned: OutProducer::new(&RETURNED, &BUFFERS_IN_RAM),
            bytes: 0,
            frames: 0,
        };
        (ethernet, network)
    }

    /// The interrupt. Bounded: it takes back what there is, and receives what the MAC has.
    pub fn ethernet<P: Produce + WaitFree, C: Drain>(
        local: &mut EthernetLocal<P, C>,
        mac: &mut board::Mac,
        wake: impl FnOnce(),
    ) -> Result<(), PeerMisbehaviour> {
        let EthernetLocal { received, returned, free, dropped } = local;
        let _ = returned.drain(BUFFERS as u32, |item| match free.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(item);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        })?;
        let mut any = false;
        // What finds no buffer stays in the MAC, as with receive descriptors.
        while let Some(slot) = free.iter_mut().find(|slot| slot.is_some()) {
            let (Some(frame), Some(item)) = (mac.receive(), *slot) else { break };
            BUFFERS_IN_RAM.frame(item, |buffer| *buffer = frame);
            match received.produce(item) {
                Ok(()) => (*slot, any) = (None, true),
                Err(_) => *dropped += 1, // never, with a correct peer; the buffer is still ours
            }
        }
        if any && received.consumer_idle() {
            wake(); // `SEV`, or `WAKER.wake()`
        }
        Ok(())
    }

    impl NetworkLocal {
        /// The protocol's work on one frame; then its buffer goes back.
        fn process(&mut self, item: Item) {
            let byte = BUFFERS_IN_RAM.frame(item, |frame| frame[0]).unwrap_or(0);
            self.bytes += u32::from(byte);
            self.frames += 1;
            if self.returned.produce(item).is_ok() && self.returned.consumer_idle() {
                board::pend_ethernet(); // the driver takes it back
            }
        }
    }

    /// The task, without an executor: for ever on a microcontroller, for `frames` here.
    pub fn network(local: &mut NetworkLocal, frames: u32) -> Result<(), PeerMisbehaviour> {
        for _ in 0..frames {
            let item = queue::next(&mut local.received, board::wait_for_event)?;
            local.process(item);
        }
        Ok(())
    }

    /// The same task for an executor. `register` keeps the waker where the interrupt finds it, which wakes it when it
    /// finds the consumer idle.
    pub async fn network_async(
        local: &mut NetworkLocal,
        frames: u32,
        mut register: impl FnMut(&Waker),
    ) -> Result<(), PeerMisbehaviour> {
        for _ in 0..frames {
            let item = poll_fn(|context| {
                let received = &mut local.received;
                received.clear_idle();
                let mut next = received.consume();
                if let Ok(None) = next {
                    register(context.waker()); // before the condition, which lets the interrupt use it
                    received.set_idle();
                    next = received.consume();
                    if let Ok(None) = next {
                        return Poll::Pending; // idle until the next poll
                    }
                    received.clear_idle();
                }
                Poll::Ready(next)
            })
            .await?;
            if let Some(item) = item {
                local.process(item);
            }
        }
        Ok(())
    }
}

/// The hardware, as far as the host can play it. Interrupts come on a thread of their own, as from another core.
mod board {
    use std::{
        sync::{Condvar, Mutex, PoisonError},
        time::Duration,
    };

    /// The MAC's receive side: frames whose first byte is their number.
    pub struct Mac {
        pub left: u32,
        next: u8,
        arrived: u32,
    }

    impl Mac {
        pub const fn new(frames: u32) -> Self {
            Self { left: frames, next: 0, arrived: 0 }
        }

        /// So many frames come in.
        pub fn arrive(&mut self, frames: u32) {
            self.arrived = (self.arrived + frames).min(self.left);
        }

        pub fn receive(&mut self) -> Option<[u8; 64]> {
            self.arrived = self.arrived.checked_sub(1)?;
            self.left -= 1;
            self.next = self.next.wrapping_add(1);
            Some([self.next; 64])
        }
    }

    /// One bit that is taken by a wait: the event register, and the pending bit of an interrupt.
    struct Sticky(Mutex<bool>, Condvar);

    impl Sticky {
        const fn new() -> Self {
            Self(Mutex::new(false), Condvar::new())
        }

        fn set(&self) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.1.notify_all();
        }

        /// Whether it was set within `time`.
        fn take(&self, time: Duration) -> bool {
            let set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut set =
                self.1.wait_timeout_while(set, time, |set| !*set).unwrap_or_else(PoisonError::into_inner).0;
            core::mem::take(&mut *set)
        }
    }

    static EVENT: Sticky = Sticky::new();
    static ETHERNET_PENDING: Sticky = Sticky::new();

    /// `WFE`.
    pub fn wait_for_event() {
        assert!(EVENT.take(Duration::from_secs(10)), "a wake-up was lost");
    }

    /// `SEV`.
    pub fn send_event() {
        EVENT.set();
    }

    /// Makes the interrupt happen without the device.
    pub fn pend_ethernet() {
        ETHERNET_PENDING.set();
    }

    /// Until the interrupt is pending, or the device would have raised it.
    pub fn ethernet_pending() -> bool {
        ETHERNET_PENDING.take(Duration::from_micros(50))
    }
}

/// The host's executor: one task, woken by `unpark`, which is sticky.
fn block_on<T>(task: impl Future<Output = T>) -> T {
    use std::{
        sync::Arc,
        task, thread,
        time::{Duration, Instant},
    };
    struct Unpark(thread::Thread);
    impl task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut task = core::pin::pin!(task);
    loop {
        if let task::Poll::Ready(value) = task.as_mut().poll(&mut task::Context::from_waker(&waker)) {
            return value;
        }
        let start = Instant::now();
        thread::park_timeout(Duration::from_secs(10));
        assert!(start.elapsed() < Duration::from_secs(10), "a wake-up was lost");
    }
}

/// Plays the board: the first half of the frames for the task with `WFE`, the second for the `async` one.
fn main() -> std::process::ExitCode {
    use std::{sync::Mutex, task::Waker, thread};
    const FRAMES: u32 = 20_000;
    static WAKER: Mutex<Option<Waker>> = Mutex::new(None);
    let (mut ethernet, mut network) = app::init();
    let interrupts = thread::spawn(move || {
        let mut mac = board::Mac::new(FRAMES);
        let mut interrupts = 0u32;
        while mac.left != 0 {
            if !board::ethernet_pending() {
                mac.arrive(1 + interrupts % 4);
            }
            interrupts += 1;
            let wake = || {
                board::send_event();
                if let Ok(Some(waker)) = WAKER.lock().as_deref() {
                    waker.wake_by_ref();
                }
            };
            app::ethernet(&mut ethernet, &mut mac, wake).expect("the task keeps to the rules");
        }
        (interrupts, ethernet.dropped)
    });
    let half = FRAMES / 2;
    let outcome = app::network(&mut network, half).and_then(|()| {
        block_on(app::network_async(&mut network, half, |waker| {
            if let Ok(mut slot) = WAKER.lock() {
                *slot = Some(waker.clone());
            }
        }))
    });
    let Ok((interrupts, dropped)) = interrupts.join() else { return std::process::ExitCode::FAILURE };
    println!(
        "{} frames in {interrupts} interrupts, {dropped} dropped, sum {}",
        network.frames, network.bytes
    );
    // Frame n starts with n modulo 256.
    let sum = (1..=FRAMES).map(|n| n % 256).sum::<u32>();
    let right = outcome.is_ok() && dropped == 0 && (network.frames, network.bytes) == (FRAMES, sum);
    if right { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

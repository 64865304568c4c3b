//! How windows open and close on a device that others may have windows on, and what their servers claim.

use abi::counters::Counter;

use super::{BUDGET, Endpoint, Mode, OpenError, Outcome, TAG_SHIFT, Watchdog, open::Open};
use crate::{
    claims::{Address, ClaimError, Claims},
    nic::{Nic, NicError, RxStatus},
    window::Mapped,
};

impl<N: Nic> Endpoint<'_, N> {
    /// Lays a window out afresh and starts the device for it. Where another window is open, and its clusters are in the receive ring, the device
    /// is stopped for that: what has come is delivered first, which is why there is an outcome; what is in the transmit ring is lost.
    ///
    /// # Errors
    /// See [`OpenError`]; the window then stays closed.
    pub fn open(&mut self, at: usize) -> Result<Outcome, OpenError> {
        let (others, _) = self.opened();
        let slot = self.slots.get(at).and_then(Option::as_ref).ok_or(OpenError::None)?;
        if slot.open.is_some() || slot.orphans != 0 || others != 0 && self.private.is_none() {
            return Err(OpenError::Busy);
        }
        if self.mode == Mode::Shared && self.private_posted == self.nic.rx_posted() {
            // There is nothing of any window in the receive ring.
            self.lay_out(at)?;
            let share = self.receive_share();
            if let Some(open) = self.slots[at].as_mut().and_then(|slot| slot.open.as_mut()) {
                open.set_target::<N>(share);
            }
            return Ok(Outcome::default());
        }
        self.switches = if others == 0 { 0 } else { self.switches.saturating_add(1) };
        let mut outcome = if others == 0 { Outcome::default() } else { self.poll() };
        if let (Some(misbehaviour), Some(Some(slot))) =
            (outcome.misbehaviour, self.slots.get_mut(outcome.culprit))
        {
            slot.note(misbehaviour);
        }
        self.nic.quiesce();
        outcome.resume |= self.take_back();
        let started = self.lay_out(at).and_then(|()| self.restart().map_err(OpenError::Nic));
        if let Err(error) = started {
            if let Some(slot) = self.slots[at].as_mut() {
                slot.open = None;
                slot.ledger.close();
            }
            if others == 0 {
                self.mode = Mode::Closed;
                return Err(error);
            }
            // The others go on as soon as the device does.
            self.watchdog.failed = self.restart().is_err();
            return Err(error);
        }
        if others == 0 {
            self.watchdog = Watchdog::default();
        }
        Ok(self.with_faults(outcome))
    }

    fn lay_out(&mut self, at: usize) -> Result<(), OpenError> {
        let slot = self.slots.get_mut(at).and_then(Option::as_mut).ok_or(OpenError::None)?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        let mapped = Mapped::open(&slot.window, &self.layout, slot.generation).ok_or(OpenError::TooSmall)?;
        slot.ledger.open(&self.layout);
        (slot.claims, slot.fault) = (Claims::default(), None);
        slot.open = Some(Open::new(mapped, &self.layout, (at as u32) << TAG_SHIFT));
        Ok(())
    }

    /// The device has forgotten all frames that it was to send: their buffers go back to their servers, and nothing is on its way any more. A
    /// bit for each window whose server waits for buffers.
    #[cold]
    pub(super) fn take_back(&mut self) -> u32 {
        let mut wanted = 0;
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(slot) = slot else { continue };
            slot.orphans = 0;
            if let Some(open) = &mut slot.open {
                open.posted = open.reaped;
            }
            let Some((open, ledger)) = slot.parts() else { continue };
            match open.take_back(ledger) {
                Ok(waits) => wanted |= u32::from(waits) << at,
                Err(misbehaviour) => slot.note(misbehaviour),
            }
        }
        wanted
    }

    /// How many of its clusters a window that is alone lends to the receive ring: at least half of them are for sending and for what the server
    /// has in hand.
    fn receive_share(&self) -> u32 {
        (self.nic.rx_room() + self.nic.rx_posted()).min(self.layout.config.clusters() / 2)
    }

    /// Starts the device, which is stopped, for the windows that are open.
    pub(super) fn restart(&mut self) -> Result<(), NicError> {
        self.private_posted = 0;
        let (count, first) = self.opened();
        self.mode = match first {
            None => Mode::Closed,
            Some(at) if count == 1 => Mode::Sole(at),
            Some(_) => Mode::Shared,
        };
        self.nic.start()?;
        let share = self.receive_share();
        for slot in self.slots.iter_mut().flatten() {
            let Some((open, ledger)) = slot.parts() else { continue };
            open.set_target::<N>(share);
            let outcome = match self.mode {
                Mode::Shared => open.regain(ledger),
                _ => open
                    .repost_all(&mut self.nic, ledger)
                    .and_then(|()| open.refill(&mut self.nic, ledger, 1)),
            };
            if let Err(misbehaviour) = outcome {
                slot.note(misbehaviour);
            }
        }
        if self.mode == Mode::Shared {
            self.post_private();
        }
        self.nic.rx_commit();
        Ok(())
    }

    /// Takes the device away from a window. With the last one it stops, and what is left in the receive ring is dropped. A window that is
    /// closed stays so.
    pub fn close(&mut self, at: usize) {
        if !self.is_open(at) {
            return;
        }
        let last = self.opened().0 == 1;
        if last {
            self.drop_received();
            self.nic.quiesce();
            (self.mode, self.private_posted) = (Mode::Closed, 0);
        }
        let Some(slot) = self.slots[at].as_mut() else { return };
        slot.ledger.close();
        (slot.claims, slot.fault) = (Claims::default(), None);
        if let Some(open) = slot.open.take() {
            // The device may still read these; they are nobody's any more.
            slot.orphans = open.in_flight();
            open.add_stats(&mut self.counts);
        }
        if last {
            self.slots.iter_mut().flatten().for_each(|slot| slot.orphans = 0);
        }
        self.take_bogus();
    }

    fn drop_received(&mut self) {
        for _ in 0..BUDGET {
            let Some(frame) = self.nic.rx_poll() else { break };
            if frame.status != RxStatus::Fragment {
                self.counts.add_frame(frame.len, Counter::DropNoWindow);
            }
        }
    }

    /// A window's server claims an address: while several windows are open, frames for it go there.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn claim(&mut self, at: usize, address: Address) -> Result<(), ClaimError> {
        if !self.is_open(at) {
            return Err(ClaimError::Closed);
        }
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != at);
        if others.filter_map(|(_, slot)| slot.as_ref()).any(|slot| slot.claims.has(address)) {
            return Err(ClaimError::Taken);
        }
        match &mut self.slots[at] {
            Some(slot) => slot.claims.add(address),
            None => Err(ClaimError::Closed),
        }
    }

    /// A window's server gives up all that it has claimed.
    pub fn disclaim(&mut self, at: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(at) {
            slot.claims = Claims::default();
        }
    }
}

//! What must be true of the kernel's tables between any two events, recounted from nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use abi::message::Data;

use super::fake::WINDOW;
use super::rig::Rig;
use crate::data::phys;
use crate::list::{Linked, List};
use crate::names::Right;
use crate::net_io::{FRAMES_PER_OPENER, OPENERS};
use crate::port::{DATA_PAGES_IN_FLIGHT, DATA_PAGES_PER_TASK, Holder, Kind, PORTS, QUEUE_LIMIT};
use crate::space::Origin;
use crate::thread::State;

fn elements<T: Linked>(list: &List, table: &[T]) -> Vec<u16> {
    let mut out = Vec::new();
    let mut next = list.head();
    while let Some(index) = next {
        out.push(index);
        assert!(out.len() <= table.len(), "a list in a circle");
        next = List::after(table, index);
    }
    out
}

#[derive(Default)]
struct Counts {
    ports: BTreeMap<u16, u16>,
    objects: BTreeMap<u16, u16>,
}

impl Counts {
    fn right(&mut self, right: Right) {
        match right {
            Right::None => {}
            Right::Memory { object, .. } => *self.objects.entry(object).or_default() += 1,
            Right::Send(port) | Right::SendOnce(port) | Right::Receive(port) | Right::Set(port) => {
                self.port(port);
            }
        }
    }

    fn port(&mut self, port: u16) {
        *self.ports.entry(port).or_default() += 1;
    }
}

impl Rig {
    /// Recounts everything; panics where the books are wrong.
    pub(crate) fn audit(&self) {
        let kernel = &self.kernel;
        let mut counts = Counts::default();
        counts.port(kernel.host_port);
        for device in &kernel.devices {
            device.port.into_iter().for_each(|port| counts.port(port));
            let object = device.object.map(|object| Right::Memory { object, write: true });
            object.into_iter().for_each(|right| counts.right(right));
        }
        for opener in kernel.net_io.openers.iter().flatten() {
            counts.port(opener.port);
            assert_ne!(kernel.tasks[usize::from(opener.task)].id, 0);
            if let Some(thread) = opener.thread {
                assert_ne!(kernel.threads[usize::from(thread)].state, State::Free);
            }
        }
        for thread in kernel.threads.iter().filter(|thread| thread.state != State::Free) {
            counts.port(thread.port);
        }
        let mut receive_rights = BTreeMap::new();
        for (task, slot) in kernel.tasks.iter().enumerate().filter(|(_, task)| task.id != 0) {
            counts.port(slot.port);
            for (name, right) in slot.names.iter() {
                counts.right(right);
                if let Right::Receive(port) | Right::Set(port) = right {
                    let holder = Holder::Task { task: task as u16, name };
                    assert_eq!(receive_rights.insert(port, holder), None, "two receive rights for one port");
                }
            }
        }
        let mut payers: BTreeMap<u64, u16> = BTreeMap::new();
        let mut data_pages: BTreeMap<u64, u16> = BTreeMap::new();
        let mut in_flight = Vec::new();
        let (mut frames_queued, mut filters) = ([0; OPENERS], 0);
        for port in 0..PORTS as u16 {
            let slot = kernel.ports.get(port);
            let queued = elements(&slot.queue, &kernel.messages.table);
            assert_eq!(queued.len(), usize::from(slot.queued));
            for &message in &queued {
                let message = kernel.messages.get(message);
                for right in [message.reply, message.carried] {
                    counts.right(right);
                    if let Right::Receive(moved) = right {
                        assert_eq!(receive_rights.insert(moved, Holder::Transit(port)), None);
                    }
                }
                match message.payer {
                    (opener, 0) => frames_queued[usize::from(opener)] += 1,
                    (_, task) => *payers.entry(task).or_default() += 1,
                }
            }
            for &message in &queued {
                let slot = kernel.messages.get(message);
                assert_eq!(slot.data_kind == Data::None, slot.data_length == 0);
                in_flight.extend(kernel.messages.frames(message).iter().map(|&frame| phys(frame)));
                *data_pages.entry(slot.payer.1).or_default() += slot.data_pages();
            }
            for request in elements(&slot.requests, &kernel.messages.table) {
                let request = kernel.messages.get(request);
                counts.port(port);
                counts.port(request.notify.0);
                *payers.entry(request.payer.1).or_default() += 1;
                let (_, task, name) = request.notify;
                let named = kernel.tasks[usize::from(task)].names.get(name).expect("a request has its name");
                assert!(named == Right::Send(port) || named == Right::SendOnce(port));
            }
            let receivers = elements(&slot.receivers, &kernel.threads);
            let senders = elements(&slot.senders, &kernel.threads);
            for &thread in &receivers {
                assert!(
                    matches!(kernel.threads[usize::from(thread)].state, State::Receiving { port: p, .. } if p == port)
                );
            }
            for &thread in &senders {
                assert!(
                    matches!(kernel.threads[usize::from(thread)].state, State::Sending { port: p, .. } if p == port)
                );
            }
            assert!(senders.is_empty() || slot.queued >= QUEUE_LIMIT, "a sender waits though there is room");
            assert!(
                receivers.is_empty() || !slot.has_message(),
                "a receiver waits though there is a message"
            );
            for member in elements(&slot.members, &kernel.ports.table) {
                assert_eq!(kernel.ports.get(member).set, Some(port));
                assert!(
                    receivers.is_empty() || !kernel.ports.get(member).has_message(),
                    "a set's receiver waits"
                );
            }
            if let Some(opener) = slot.filter {
                assert!(kernel.net_io.openers[usize::from(opener)].is_some() && slot.kind == Kind::Messages);
                filters += 1;
            }
            if let Some(set) = slot.set {
                assert!(elements(&kernel.ports.get(set).members, &kernel.ports.table).contains(&port));
            }
            if matches!(slot.kind, Kind::Free | Kind::Dead) {
                assert!(
                    queued.is_empty() && receivers.is_empty() && senders.is_empty() && slot.set.is_none()
                );
                assert!(slot.bound.is_none() && slot.requests.is_empty());
            }
            if let Some(bound) = slot.bound {
                assert_ne!(kernel.threads[usize::from(bound)].state, State::Free);
            }
        }
        for port in 0..PORTS as u16 {
            let slot = kernel.ports.get(port);
            let counted = counts.ports.get(&port).copied().unwrap_or(0);
            assert_eq!(slot.references, counted, "references of port {port}: {slot:?}");
            assert_eq!(slot.kind == Kind::Free, counted == 0);
            let holder = receive_rights.get(&port).copied().unwrap_or(Holder::Nobody);
            assert_eq!(slot.holder, holder, "port {port}");
            assert_eq!(matches!(slot.kind, Kind::Messages | Kind::Set), holder != Holder::Nobody);
        }
        for task in kernel.tasks.iter().filter(|task| task.id != 0) {
            assert_eq!(task.messages, payers.get(&task.id).copied().unwrap_or(0), "messages of {}", task.id);
            let owed = data_pages.get(&task.id).copied().unwrap_or(0);
            assert_eq!(task.data_pages, owed, "pages of data of {}", task.id);
            assert!(owed <= DATA_PAGES_PER_TASK);
        }
        assert_eq!(kernel.net_io.queued, frames_queued);
        assert!(frames_queued.iter().all(|&count| count <= FRAMES_PER_OPENER));
        assert_eq!(kernel.net_io.filters.len(), filters);
        let frames: u16 = frames_queued.iter().sum();
        assert_eq!(usize::from(kernel.messages.pages_in_flight + frames), in_flight.len());
        // Those whose senders have ended count as well.
        assert_eq!(usize::from(kernel.messages.of_tasks), payers.values().map(|&n| usize::from(n)).sum());
        assert!(kernel.messages.pages_in_flight <= DATA_PAGES_IN_FLIGHT);
        self.audit_memory(counts, &in_flight);
        self.audit_threads();
    }

    fn audit_memory(&self, mut counts: Counts, in_flight: &[u64]) {
        let kernel = &self.kernel;
        let mut own = 0;
        let mut owned = BTreeSet::new();
        let sending = self.m.net.iter().flat_map(|net| net.sending.iter().chain(&net.sent));
        let in_flight: Vec<u64> = in_flight.iter().chain(sending).copied().collect();
        for &frame in &in_flight {
            assert!(owned.insert(frame), "a frame in two messages");
        }
        for task in &kernel.tasks {
            let Some(space) = &task.space else {
                assert_eq!(task.id, 0);
                continue;
            };
            let mut pages = 0;
            let mut end = 0;
            for (start, count, origin) in kernel.memory.regions(space) {
                assert!(start >= end && count > 0, "regions in order, none empty");
                end = start + count * 4096;
                pages += count;
                for page in 0..count {
                    let (phys, _) = space.tables.pages[&(start + page * 4096)];
                    match origin {
                        Origin::Own => assert!(owned.insert(phys), "a task's own frame is another's too"),
                        Origin::Object(_) => assert!(!owned.contains(&phys)),
                    }
                }
                match origin {
                    Origin::Own => own += count,
                    Origin::Object(object) => counts.right(Right::Memory { object, write: true }),
                }
            }
            assert_eq!(
                space.tables.pages.len() as u64,
                pages + 1,
                "the regions' pages and the information page"
            );
            let all: u64 =
                kernel.memory.regions(space).iter().filter(|r| r.2 == Origin::Own).map(|r| r.1).sum();
            assert_eq!(space.own_pages, all);
        }
        let (references, held) = kernel.memory.objects.census();
        let mut expected = vec![0; references.len()];
        counts.objects.iter().for_each(|(&object, &count)| expected[usize::from(object)] = count);
        assert_eq!(references, expected, "references of memory objects");
        let free = kernel.memory.frames.free_count() as u64;
        let used = own + held + in_flight.len() as u64 + self.m.tables as u64 + 1;
        assert_eq!(free + used, self.frames_at_boot as u64, "every frame is somewhere");
        assert!(owned.iter().all(|&phys| phys >= WINDOW.0 + WINDOW.1));
    }

    fn audit_threads(&self) {
        let kernel = &self.kernel;
        let mut ready = Vec::new();
        for (index, thread) in kernel.threads.iter().enumerate() {
            match thread.state {
                State::Free => continue,
                State::Running => assert_eq!(kernel.current, Some(index as u16)),
                State::Ready => ready.push(index as u16),
                State::Console { .. } => {
                    assert!(elements(&kernel.typists, &kernel.threads).contains(&(index as u16)));
                }
                State::Suspended => assert_eq!(thread.pending, 0, "suspended though something is pending"),
                State::Receiving { .. } | State::Sending { .. } => {}
            }
            let task = &kernel.tasks[usize::from(thread.task)];
            assert!(task.id != 0 && task.threads > 0);
        }
        let mut queued = kernel.ready.all(&kernel.threads);
        queued.sort_unstable();
        assert_eq!(queued, ready);
        for (index, task) in kernel.tasks.iter().enumerate().filter(|(_, task)| task.id != 0) {
            let threads = kernel.threads.iter().filter(|t| t.state != State::Free && t.task == index as u16);
            assert_eq!(threads.count(), usize::from(task.threads));
        }
        if let Some(current) = kernel.current
            && !self.must_pick
        {
            assert_eq!(kernel.threads[usize::from(current)].state, State::Running);
        }
        let open = |at| self.m.net.as_ref().is_some_and(|net| net.windows_open[at]);
        for (at, device) in kernel.devices.iter().enumerate() {
            assert_eq!(open(at), device.owner.is_some() || at == 0 && kernel.net_io.is_open());
        }
    }
}

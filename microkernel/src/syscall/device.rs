//! The network device, `net0`, as the task that has it open uses it. The driver is behind [`NetDevice`].

use abi::Error;
use abi::counters::Counter;
use abi::device::{Audit, NetInfo};
use abi::path::Path;
use abi::syscall::NAME_MAX;
use abi::vm::PAGE_BYTES;
use core::mem::offset_of;
use netdev_driver::claims::Address;
use netdev_driver::endpoint::WINDOWS_MAX;

use super::{Answer, Bytes, name};
use crate::hold::ADDRESSES;
use crate::kernel::{Device, Kernel};
use crate::machine::{Machine, NetDevice, Outcome};
use crate::names::Right;
use crate::port::Kind;

/// How a task has the device open.
enum Opened {
    /// With the window of this number.
    Window(usize),
    /// On the path by message, as this opener.
    Messages(u8),
}

impl<M: Machine> Kernel<M> {
    /// Does the name denote the device, and is it the running task that has it open? With which window.
    #[inline]
    fn device_named(&self, raw: u64) -> Result<usize, Error> {
        let Right::Send(port) = self.tasks[usize::from(self.current_task)].names.get(name(raw)?)? else {
            return Err(Error::BadRight);
        };
        match self.ports.kind(port) {
            Kind::Device(at) => {
                let at = usize::from(at) % WINDOWS_MAX;
                if self.devices[at].owner == Some(self.current_task) { Ok(at) } else { Err(Error::Denied) }
            }
            // There is no window on that path.
            Kind::NetIo(_) => Err(Error::BadCall),
            Kind::Dead => Err(Error::Dead),
            _ => Err(Error::BadRight),
        }
    }

    /// As [`Kernel::device_named`], and if it is so on the path by message, as which opener.
    fn device_on_any_path(&self, raw: u64) -> Result<Opened, Error> {
        match self.device_named(raw) {
            Ok(at) => Ok(Opened::Window(at)),
            Err(Error::BadCall) => self.net_io_named(raw).map(Opened::Messages),
            Err(error) => Err(error),
        }
    }

    #[inline]
    pub(super) fn device_start(&mut self, m: &mut M, device: u64) -> Answer {
        let at = self.device_named(device)?;
        let Some(net) = m.net() else { return Err(Error::Dead) };
        let event = net.start(at);
        if event.resume != 0 || event.violation.is_some() {
            self.net_event(m, event);
        }
        Ok(if self.current.is_none() { Outcome::SWITCHED } else { Outcome::ok(0) })
    }

    pub(super) fn device_open(&mut self, m: &mut M, address: u64, length: u64) -> Answer {
        let mut room = [0; NAME_MAX];
        let wanted = self.copy_string(m, address, length, &mut room)?;
        let task = self.current_task;
        let Some(net) = m.net().filter(|_| wanted == b"net0") else { return Err(Error::NotFound) };
        match net.path() {
            Path::Window => {}
            Path::Ipc => return Ok(Outcome::ok(self.open_net_io(m, task)?.into())),
            // The stack in the kernel has it.
            Path::Monolithic => return Err(Error::Exists),
        }
        let windows = net.windows().min(WINDOWS_MAX);
        let bases: [u64; WINDOWS_MAX] =
            core::array::from_fn(|at| if at < windows { net.window(at).0 } else { 0 });
        // One for each task; none of which somebody still maps what it was before, or that is kept for somebody else.
        let free = |&at: &usize| {
            let Device { owner, hold, .. } = self.devices[at];
            owner.is_none()
                && !self.memory.objects.device_in_use(bases[at])
                && !self.is_kept_from(m, hold, task)
        };
        if self.devices.iter().any(|device| device.owner == Some(task)) {
            return Err(Error::Exists);
        }
        let own = (0..windows).filter(free).find(|&at| self.is_kept_for(self.devices[at].hold, task));
        let at = own.or_else(|| (0..windows).find(free)).ok_or(Error::Exists)?;
        if !self.tasks[usize::from(task)].names.has_room(1) {
            return Err(Error::NoResources);
        }
        let port = self.ports.allocate(Kind::Device(at as u8))?;
        let Some(net) = m.net() else { return Err(Error::Dead) };
        let event = match net.open(at) {
            Ok(event) => event,
            Err(error) => {
                self.kill_port(m, port, 0);
                return Err(error);
            }
        };
        if self.devices.iter().all(|device| device.owner.is_none()) {
            self.note_deliveries(m);
        }
        self.devices[at] = Device { owner: Some(task), port: Some(port), ..Device::CLOSED };
        self.ports.get_mut(port).references += 1;
        let name = self.insert_right(task, Right::Send(port))?;
        self.net_event(m, event);
        Ok(Outcome::ok(name.into()))
    }

    /// Somebody opens the device that nobody had open: what was delivered until now was for those who had it before.
    pub(crate) fn note_deliveries(&mut self, m: &mut M) {
        let mut counters = self.counters;
        if let Some(net) = m.net() {
            net.counters(&mut counters);
        }
        self.counters[Counter::DeliveredBefore as usize] =
            Counter::DELIVERED.iter().map(|&counter| counters[counter as usize]).sum();
    }

    pub(super) fn device_claim(
        &mut self,
        m: &mut M,
        device: u64,
        family: u64,
        high: u64,
        low: u64,
    ) -> Answer {
        let at = self.device_named(device)?;
        let address = match (family, high, u32::try_from(low)) {
            (0, ..) => None,
            (4, 0, Ok(address)) => Some(Address::Ipv4(address.to_be_bytes())),
            (6, ..) => Some(Address::Ipv6((u128::from(high) << 64 | u128::from(low)).to_be_bytes())),
            _ => return Err(Error::BadArgument),
        };
        if let Some(address) = address {
            self.take_kept(m, address, self.current_task)?;
        }
        let Some(net) = m.net() else { return Err(Error::Dead) };
        net.claim(at, address)?;
        let claimed = &mut self.devices[at].addresses;
        match address {
            None => *claimed = [None; ADDRESSES],
            Some(_) if claimed.contains(&address) => {}
            // There is a place: the driver takes no more of a family than half of them.
            Some(_) => claimed.iter_mut().find(|it| it.is_none()).into_iter().for_each(|it| *it = address),
        }
        Ok(Outcome::ok(0))
    }

    pub(super) fn device_map(&mut self, m: &mut M, device: u64) -> Answer {
        let at = self.device_named(device)?;
        let Some(net) = m.net() else { return Err(Error::Dead) };
        let (base, bytes) = net.window(at);
        let object = match self.devices[at].object {
            Some(object) => object,
            None => {
                let object = self.memory.objects.create_device(base, bytes / PAGE_BYTES)?;
                self.devices[at].object = Some(object);
                object
            }
        };
        self.memory.objects.retain(object)?;
        match self.insert_right(self.current_task, Right::Memory { object, write: true }) {
            Ok(name) => Ok(Outcome::ok(name.into())),
            Err(error) => {
                self.memory.objects.unretain(object);
                Err(error)
            }
        }
    }

    pub(super) fn device_info(&mut self, m: &mut M, device: u64, address: u64) -> Answer {
        self.device_on_any_path(device)?;
        let Some(net) = m.net() else { return Err(Error::Dead) };
        let info = net.info();
        let mut bytes = Bytes::<{ size_of::<NetInfo>() }>::new();
        bytes.put(offset_of!(NetInfo, mac), &info.mac);
        bytes.put(offset_of!(NetInfo, link_up), &info.link_up.to_le_bytes());
        bytes.put(offset_of!(NetInfo, frame_bytes_max), &info.frame_bytes_max.to_le_bytes());
        bytes.put(offset_of!(NetInfo, offload), &info.offload.to_le_bytes());
        bytes.put(offset_of!(NetInfo, window_bytes), &info.window_bytes.to_le_bytes());
        bytes.put(offset_of!(NetInfo, driver_length), &info.driver_length.to_le_bytes());
        bytes.put(offset_of!(NetInfo, driver), &info.driver);
        self.answer_at(m, address, &bytes.0)?;
        Ok(Outcome::ok(0))
    }

    pub(super) fn device_bind_thread(&mut self, device: u64, thread: u64) -> Answer {
        let opened = self.device_on_any_path(device)?;
        let thread = Some(self.thread_named(thread)?);
        match opened {
            Opened::Window(at) => self.devices[at].thread = thread,
            Opened::Messages(opener) => {
                if let Some(opener) = &mut self.net_io.openers[usize::from(opener)] {
                    opener.thread = thread;
                }
            }
        }
        Ok(Outcome::ok(0))
    }

    pub(super) fn device_audit(&mut self, m: &mut M, device: u64, address: u64) -> Answer {
        // On the path by message all that there is is the kernel's, and nobody's account can be wrong but the kernel's own.
        let at = match self.device_on_any_path(device)? {
            Opened::Window(at) => at,
            Opened::Messages(_) => 0,
        };
        let Some(net) = m.net() else { return Err(Error::Dead) };
        let audit = net.audit(at);
        let mut bytes = Bytes::<{ size_of::<Audit>() }>::new();
        bytes.put(offset_of!(Audit, mbufs_posted), &audit.mbufs_posted.to_le_bytes());
        bytes.put(offset_of!(Audit, mbufs_transmitting), &audit.mbufs_transmitting.to_le_bytes());
        bytes.put(offset_of!(Audit, clusters_posted), &audit.clusters_posted.to_le_bytes());
        bytes.put(offset_of!(Audit, clusters_transmitting), &audit.clusters_transmitting.to_le_bytes());
        self.answer_at(m, address, &bytes.0)?;
        Ok(Outcome::ok(0))
    }
}

//! mbstat: pools, queues, drops; with `-c` it checks that every mbuf and cluster is accounted for, that every frame was delivered or its
//! drop counted, and that nothing waits in a queue.
#![no_std]
#![no_main]

use core::time::Duration;

use abi::{
    counters::Counter,
    socket::{Request, ServerCounter, audit},
    window::POOLS_MAX,
};
use apps::{
    During, Failed, Usage,
    options::{Options, Word},
};
use userlib::{
    Error,
    counters::Snapshot,
    entry::{Args, ExitStatus},
    info,
    message::{Incoming, Outgoing},
    net::Service,
    print, println, thread,
};

userlib::entry!(main);

const USAGE: &str = "[-c] [-M]";
/// The accounts are looked at so often before they count as wrong: frames come and go while the numbers are gathered.
const TRIES: u32 = 20;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

fn main(args: Args) -> Result<ExitStatus, Failed> {
    let (mut check, mut machine) = (false, false);
    for word in Options::new(args, "") {
        match word {
            Ok(Word::Option('c', _)) => check = true,
            Ok(Word::Option('M', _)) => machine = true,
            Ok(Word::Option(option, _)) => {
                return Ok(apps::misused("mbstat", &Usage::Unknown(option), USAGE));
            }
            Ok(Word::Operand(text)) => return Ok(apps::misused("mbstat", &Usage::Extra(text), USAGE)),
            Err(usage) => return Ok(apps::misused("mbstat", &usage, USAGE)),
        }
    }
    if check {
        return balance();
    }
    let accounts = Accounts::gather()?;
    accounts.print();
    if machine {
        print!("#mbstat");
        for (name, value) in accounts.counters.iter() {
            print!(" {name}={value}");
        }
        println!();
    }
    Ok(ExitStatus(0))
}

/// Everything that must add up, from about one moment.
struct Accounts {
    pools: usize,
    mbufs: Kept,
    clusters: Kept,
    queues_filled: u32,
    per_pool: [(u32, u32); POOLS_MAX as usize],
    counters: Snapshot,
}

/// Who has the mbufs, or the clusters.
struct Kept {
    all: u32,
    free: u32,
    lent: u32,
    posted: u32,
    transmitting: u32,
}

impl Kept {
    const fn accounted(&self) -> u64 {
        self.free as u64 + self.lent as u64 + self.posted as u64 + self.transmitting as u64
    }

    fn print(&self, what: &str) {
        println!(
            "{what:<9} {:>6} {:>6} {:>6} {:>6} {:>12}",
            self.all, self.free, self.lent, self.posted, self.transmitting
        );
    }
}

impl Accounts {
    fn gather() -> Result<Self, Failed> {
        let service = Service::get(None).during("network")?;
        let reply = service.ask(Outgoing::new(Request::Audit.raw())).during("audit")?;
        Self::from_reply(&reply, apps::counters()?).during("audit")
    }

    fn from_reply(reply: &Incoming, counters: Snapshot) -> Result<Self, Error> {
        let word = |index| reply.word(index).ok_or(Error::PeerMisbehaviour);
        let pools = word(audit::POOLS)?;
        if pools > POOLS_MAX {
            return Err(Error::PeerMisbehaviour);
        }
        let mut per_pool = [(0, 0); POOLS_MAX as usize];
        for (pool, free) in per_pool.iter_mut().take(pools as usize).enumerate() {
            *free = (word(audit::PER_POOL + 2 * pool)?, word(audit::PER_POOL + 2 * pool + 1)?);
        }
        Ok(Self {
            pools: pools as usize,
            mbufs: Kept {
                all: word(audit::MBUFS)?,
                free: word(audit::MBUFS_FREE)?,
                lent: word(audit::MBUFS_LENT)?,
                posted: word(audit::MBUFS_POSTED)?,
                transmitting: word(audit::MBUFS_TRANSMITTING)?,
            },
            clusters: Kept {
                all: word(audit::CLUSTERS)?,
                free: word(audit::CLUSTERS_FREE)?,
                lent: word(audit::CLUSTERS_LENT)?,
                posted: word(audit::CLUSTERS_POSTED)?,
                transmitting: word(audit::CLUSTERS_TRANSMITTING)?,
            },
            queues_filled: word(audit::QUEUES_FILLED)?,
            per_pool,
            counters,
        })
    }

    /// The first account that is wrong.
    fn wrong(&self) -> Option<Wrong> {
        for (what, kept) in [("mbufs", &self.mbufs), ("clusters", &self.clusters)] {
            if kept.accounted() != u64::from(kept.all) {
                return Some(Wrong::Buffers(what, kept.accounted(), kept.all.into()));
            }
        }
        if self.queues_filled != 0 {
            return Some(Wrong::Queues(self.queues_filled));
        }
        let seen: u64 = self.counters.kernel(Counter::FramesIn);
        let settled: u64 = Counter::SETTLED.iter().map(|&counter| self.counters.kernel(counter)).sum();
        if seen != settled {
            return Some(Wrong::Frames(seen, settled));
        }
        let all: u64 = Counter::DELIVERED.iter().map(|&counter| self.counters.kernel(counter)).sum();
        // What went to servers before this one is no concern of this one's.
        let delivered = all - self.counters.kernel(Counter::DeliveredBefore).min(all);
        let taken = self.counters.server(ServerCounter::FramesIn);
        // On the path by message others may have had frames too, each with a message of its own; and some may have been for them alone. Where
        // several windows are, the others have taken the rest, and what is for all was delivered more than once.
        let messages = self.counters.kernel(Counter::NetMessages);
        let several = ["servers", "windows"].iter().any(|key| info::option(key).is_some_and(|n| n != "1"));
        let shared = several || messages != 0 && messages != all;
        let most = delivered + self.counters.kernel(Counter::DeliveredAgain);
        let wrong = if shared { taken > most } else { taken != delivered };
        wrong.then_some(Wrong::Taken(delivered, taken))
    }

    fn print(&self) {
        println!("             all   free   lent posted transmitting");
        self.mbufs.print("mbufs");
        self.clusters.print("clusters");
        for (pool, (mbufs, clusters)) in self.per_pool.iter().take(self.pools).enumerate() {
            println!("pool {pool}: {mbufs} mbufs free, {clusters} clusters free");
        }
        let queues = ["in-arp", "in-ipv4", "in-ipv6", "in-other", "out", "deferred-free"];
        for (bit, queue) in queues.iter().enumerate() {
            let filled = self.queues_filled >> bit & 1 != 0;
            println!("queue {queue}: {}", if filled { "holds something" } else { "empty" });
        }
        for (name, value) in self.counters.iter() {
            println!("{value:>12} {name}");
        }
    }
}

/// Which account does not add up.
enum Wrong {
    Buffers(&'static str, u64, u64),
    Queues(u32),
    Frames(u64, u64),
    Taken(u64, u64),
}

impl core::fmt::Display for Wrong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Wrong::Buffers(what, found, all) => write!(f, "{found} {what} of {all} are accounted for"),
            Wrong::Queues(bits) => write!(f, "queues {bits:#b} hold something, and nobody takes it"),
            Wrong::Frames(seen, settled) => write!(f, "{seen} frames in, {settled} delivered or dropped"),
            Wrong::Taken(delivered, taken) => {
                write!(f, "{delivered} frames delivered, {taken} taken by the server")
            }
        }
    }
}

fn balance() -> Result<ExitStatus, Failed> {
    let mut tries = 0;
    loop {
        let accounts = Accounts::gather()?;
        tries += 1;
        match accounts.wrong() {
            None => {
                println!("mbstat: balanced");
                return Ok(ExitStatus(0));
            }
            Some(wrong) if tries == TRIES => {
                println!("mbstat: UNBALANCED: {wrong}");
                accounts.print();
                return Ok(ExitStatus(1));
            }
            Some(_) => thread::sleep(PAUSE),
        }
    }
}

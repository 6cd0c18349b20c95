//! A network between hosts that does to their packets what it is told: loses, delays, doubles,
//! reorders them, or cuts a direction.
//!
//! Every host is a network namespace whose only device is a TUN device. What the host sends, this
//! process reads as packets, decides on, and hands to the host that they are for. `tc netem` does
//! the same inside the kernel, but not every kernel has it, and it neither draws from our seed nor
//! cuts one direction between two of many hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tun_rs::SyncDevice;

use super::schedule::Weather;

/// More than a packet of such a device has.
const PACKET_BYTES_MAX: usize = 1 << 16;
/// Where an IPv4 packet has the last byte of the address that it is for.
const DESTINATION: usize = 19;
/// The most packets on their way with a delay; more are lost, as in any network that is too slow.
const DELAYED_MAX: usize = 10_000;

/// The network. Its threads end with the process.
#[derive(Debug)]
pub struct Switch {
    links: Arc<Mutex<Links>>,
}

/// What became of packets.
#[derive(Clone, Copy, Default, Debug)]
pub struct Packets {
    /// Handed on, those that were doubled counted once.
    pub carried: u64,
    /// Not handed on, for their way was cut.
    pub cut: u64,
    /// Lost by the weather.
    pub lost: u64,
    /// Handed on twice.
    pub doubled: u64,
    /// Handed on late.
    pub delayed: u64,
}

#[derive(Debug)]
struct Links {
    /// Directions, from and to, in which nothing passes.
    cut: BTreeSet<(u8, u8)>,
    weather: Option<Weather>,
    /// Hosts to and from which the weather is always fine.
    sheltered: u8,
    rng: Rng,
    packets: Packets,
}

type Hosts = BTreeMap<u8, Arc<SyncDevice>>;

/// A packet that is late: when it is due, its number so that those due at once keep their order, to
/// whom.
type Late = Reverse<(Instant, u64, u8, Vec<u8>)>;

impl Switch {
    /// Connects hosts, each named by the last byte of its address. The weather spares the links of
    /// `sheltered`.
    pub fn start(hosts: Hosts, sheltered: u8, seed: u64) -> Self {
        let links = Links {
            cut: BTreeSet::new(),
            weather: None,
            sheltered,
            rng: Rng::with_seed(seed),
            packets: Packets::default(),
        };
        let links = Arc::new(Mutex::new(links));
        let (late, due) = mpsc::channel();
        for (host, device) in hosts.clone() {
            let carrier =
                Carrier { host, hosts: hosts.clone(), links: links.clone(), late: late.clone() };
            thread::spawn(move || carrier.carry(&device));
        }
        thread::spawn(move || deliver_late(&due, &hosts));
        Self { links }
    }

    /// Cuts these directions, and no others.
    pub fn cut(&self, directions: impl IntoIterator<Item = (u8, u8)>) {
        lock(&self.links).cut = directions.into_iter().collect();
    }

    /// Sets the weather.
    pub fn set_weather(&self, weather: Option<Weather>) {
        lock(&self.links).weather = weather;
    }

    /// What became of packets so far.
    pub fn packets(&self) -> Packets {
        lock(&self.links).packets
    }
}

/// Takes what one host sends.
struct Carrier {
    host: u8,
    hosts: Hosts,
    links: Arc<Mutex<Links>>,
    late: Sender<(Instant, u8, Vec<u8>)>,
}

impl Carrier {
    fn carry(&self, device: &SyncDevice) {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        // A device that is gone ends its thread.
        while let Ok(length) = device.recv(&mut packet) {
            self.pass(&packet[..length]);
        }
    }

    fn pass(&self, packet: &[u8]) {
        let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
        let to = packet.get(DESTINATION).copied().filter(|_| is_v4);
        let Some((to, device)) = to.and_then(|to| Some((to, self.hosts.get(&to)?))) else { return };
        for delay in lock(&self.links).fates(self.host, to) {
            if delay.is_zero() {
                // What a host cannot take is lost, as on any network.
                let _ = device.send(packet);
            } else {
                let _ = self.late.send((Instant::now() + delay, to, packet.to_vec()));
            }
        }
    }
}

impl Links {
    /// For each time that a packet arrives, how late.
    fn fates(&mut self, from: u8, to: u8) -> Vec<Duration> {
        if self.cut.contains(&(from, to)) {
            self.packets.cut += 1;
            return Vec::new();
        }
        let sheltered = [from, to].contains(&self.sheltered);
        let Some(weather) = self.weather.filter(|_| !sheltered) else {
            self.packets.carried += 1;
            return vec![Duration::ZERO];
        };
        if self.rng.u32(..1_000) < weather.lost_per_mille {
            self.packets.lost += 1;
            return Vec::new();
        }
        self.packets.carried += 1;
        self.packets.delayed += 1;
        let doubled = self.rng.u32(..1_000) < weather.doubled_per_mille;
        self.packets.doubled += u64::from(doubled);
        let range = weather.delay_max.saturating_sub(weather.delay_min).as_micros();
        let range = u64::try_from(range).unwrap_or(u64::MAX).max(1);
        let copies = if doubled { 2 } else { 1 };
        let delay = |_| weather.delay_min + Duration::from_micros(self.rng.u64(1..=range));
        (0..copies).map(delay).collect()
    }
}

fn deliver_late(due: &Receiver<(Instant, u8, Vec<u8>)>, hosts: &Hosts) {
    let mut waiting = BinaryHeap::<Late>::new();
    for number in 0.. {
        let next = waiting.peek().map(|Reverse((at, ..))| *at);
        let wait = next.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        match due.recv_timeout(wait) {
            Ok((at, to, packet)) if waiting.len() < DELAYED_MAX => {
                waiting.push(Reverse((at, number, to, packet)));
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, to, packet))) = waiting.pop() else { break };
            if let Some(device) = hosts.get(&to) {
                let _ = device.send(&packet);
            }
        }
    }
}

fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(weather: Option<Weather>) -> Links {
        let (cut, rng) = (BTreeSet::from([(1, 2)]), Rng::with_seed(1));
        Links { cut, weather, sheltered: 9, rng, packets: Packets::default() }
    }

    #[test]
    fn a_cut_has_a_direction() {
        let mut links = links(None);
        assert!(links.fates(1, 2).is_empty());
        assert_eq!(links.fates(2, 1), [Duration::ZERO]);
        assert_eq!((links.packets.cut, links.packets.carried), (1, 1));
    }

    #[test]
    fn weather_loses_doubles_and_delays_but_spares_the_sheltered() {
        let (delay_min, delay_max) = (Duration::from_millis(1), Duration::from_millis(5));
        let weather = Weather { lost_per_mille: 200, doubled_per_mille: 100, delay_min, delay_max };
        let mut links = links(Some(weather));
        for _ in 0..10_000 {
            let fates = links.fates(2, 3);
            assert!(fates.iter().all(|delay| (delay_min..=delay_max).contains(delay)));
        }
        let Packets { lost, doubled, carried, .. } = links.packets;
        assert!(
            (1_500..2_500).contains(&lost) && (500..1_100).contains(&doubled),
            "{lost} {doubled}"
        );
        assert_eq!(lost + carried, 10_000);
        assert_eq!(links.fates(9, 3), [Duration::ZERO]);
    }
}

//! What the paper measured: Figure 16 of the extended version, five servers, 1000 trials for each
//! line.

/// Downtime with timeouts from one range, in milliseconds.
pub(crate) struct Line {
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) p50: f64,
    pub(crate) mean: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

const fn line(min: u64, max: u64, p50: f64, mean: f64, p99: f64, longest: f64) -> Line {
    Line { min, max, p50, mean, p99, longest }
}

/// Its lower half: how short timeouts may be.
pub(crate) const SCALING: [Line; 5] = [
    line(12, 24, 30.7, 35.0, 87.5, 152.0),
    line(25, 50, 43.7, 48.6, 119.0, 277.0),
    line(50, 100, 67.4, 72.1, 169.0, 254.0),
    line(100, 200, 121.0, 126.0, 274.0, 336.0),
    line(150, 300, 172.0, 181.0, 406.0, 604.0),
];

/// Its upper half: how much randomness is needed. The range without any, which elects nobody for
/// long, is left out.
pub(crate) const RANDOMNESS: [Line; 4] = [
    line(150, 155, 287.0, 349.0, 1233.0, 2154.0),
    line(150, 175, 143.0, 166.0, 467.0, 616.0),
    line(150, 200, 149.0, 158.0, 349.0, 513.0),
    line(150, 300, 172.0, 181.0, 406.0, 604.0),
];

/// A message there, a write, and the answer back, in milliseconds.
pub(crate) const BROADCAST_MS: u64 = 15;

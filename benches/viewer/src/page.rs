//! What the page's script calls. Text goes both ways as JSON.

use std::cell::Cell;
use std::panic;
use std::panic::PanicHookInfo;

use wasm_bindgen::prelude::wasm_bindgen;

use crate::{Action, Live, Position, Recorded, Setup};

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

#[wasm_bindgen]
extern "C" {
    /// Shows that the core panicked, and where.
    #[wasm_bindgen(js_name = showPanic)]
    fn show_panic(text: &str);
}

fn on_panic(info: &PanicHookInfo<'_>) {
    show_panic(&format!("seed {}: {info}", SEED.get()));
}

/// A cluster in the page.
#[wasm_bindgen]
#[derive(Debug)]
pub struct World(Live);

#[wasm_bindgen]
impl World {
    /// A cluster of 3 to 7 servers.
    #[wasm_bindgen(constructor)]
    pub fn new(servers: u32, seed: u32) -> Self {
        panic::set_hook(Box::new(on_panic));
        let seed = u64::from(seed);
        SEED.set(seed);
        Self(Live::new(Setup { servers: u64::from(servers), seed }))
    }

    /// The moment, as a `Scene`.
    pub fn scene(&self) -> String {
        serde_json::to_string(&self.0.scene()).unwrap_or_default()
    }

    /// The lines of the story from this one on.
    pub fn story(&self, from: usize) -> String {
        serde_json::to_string(self.0.story().get(from..).unwrap_or_default()).unwrap_or_default()
    }

    /// Does something. The error says what is not understood.
    pub fn act(&mut self, action: &str) -> Result<(), String> {
        let action: Action = serde_json::from_str(action).map_err(|error| error.to_string())?;
        self.0.act(action);
        Ok(())
    }

    /// Lets so many microseconds pass.
    pub fn run(&mut self, micros: f64) {
        self.0.run(micros as u64);
    }

    /// Goes back by so many microseconds.
    pub fn run_back(&mut self, micros: f64) {
        self.0.run_back(micros as u64);
    }

    /// One event forward.
    pub fn step(&mut self) {
        self.0.step();
    }

    /// One event back.
    pub fn step_back(&mut self) {
        self.0.step_back();
    }

    /// Forward to the next line of the story.
    pub fn step_story(&mut self) {
        self.0.step_story();
    }

    /// Back to the line of the story before.
    pub fn back_story(&mut self) {
        self.0.back_story();
    }

    /// Goes to a moment.
    pub fn go_to(&mut self, micros: f64, events: f64) {
        self.0.go_to(Position { micros: micros as u64, events: events as u64 });
    }

    /// A hash over all that happened, as text.
    pub fn hash(&self) -> String {
        format!("{:016x}", self.0.hash())
    }
}

/// Files that are read, and then replayed.
#[wasm_bindgen]
#[derive(Default, Debug)]
pub struct Tape {
    files: Vec<(String, Vec<u8>)>,
    recorded: Option<Recorded>,
}

#[wasm_bindgen]
impl Tape {
    /// No files yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        panic::set_hook(Box::new(on_panic));
        Self::default()
    }

    /// A file.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.files.push((name, bytes));
    }

    /// Replays the files, as a `Summary`. The error says what they are instead of recordings.
    pub fn replay(&mut self) -> Result<String, String> {
        let recorded = Recorded::new(std::mem::take(&mut self.files))?;
        let summary = serde_json::to_string(&recorded.summary()).map_err(|error| error.to_string());
        self.recorded = Some(recorded);
        summary
    }

    /// The servers after a line of the story, as a list of `State`.
    pub fn states(&self, line: usize) -> String {
        let states = self.recorded.as_ref().map(|recorded| recorded.states(line));
        serde_json::to_string(&states.unwrap_or_default()).unwrap_or_default()
    }
}

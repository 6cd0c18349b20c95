//! What the page's script calls. Text goes both ways as JSON.

use std::cell::Cell;
use std::panic;
use std::panic::PanicHookInfo;

use wasm_bindgen::prelude::wasm_bindgen;

use crate::{Action, Live, Position, Setup};

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

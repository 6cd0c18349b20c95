'use strict';

// The page: it shows what the core says (a Scene, see src/scene.rs) and passes on what a person does.

const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

/** Makes an element of the picture. */
function draw(tag, attributes, parent, text) {
  const element = document.createElementNS(SVG, tag);
  set(element, attributes);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

/** Sets attributes that differ. */
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

/** Sets a text that differs. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, options = {}, ...children) {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
}

const seconds = (micros, digits = 3) => `${(micros / 1e6).toFixed(digits)} s`;

// ---- The core ----

/** Called by the core when it panics. Afterwards nothing of that world may be touched. */
globalThis.showPanic = function showPanic(text) {
  world = null;
  play(0);
  $('panic-text').textContent = text;
  $('panic').hidden = false;
};

/** Calls the core. If it stops in the middle, the page says so and stays alive. */
function ask(call) {
  if (!world) return undefined;
  try {
    return call(world);
  } catch (error) {
    if (typeof error === 'string') announce(error);
    else if (world) showPanic(`seed ${scene?.setup.seed}: ${error}`);
    return undefined;
  }
}

let world = null;
let scene = null;
let story = [];
let chosen = 1;
let direction = 0;
let picture = null;

function begin(servers, seed) {
  $('panic').hidden = true;
  story = [];
  $('story').replaceChildren();
  try {
    world = new wasm_bindgen.World(servers, seed);
  } catch (error) {
    if (world) showPanic(`seed ${seed}: ${error}`);
    return;
  }
  chosen = Math.min(chosen, servers);
  picture = null;
  refresh();
}

function act(action) {
  ask((world) => world.act(JSON.stringify(action)));
  // The story behind this moment is another one now.
  story.length = Math.min(story.length, scene?.told ?? 0);
  refresh();
}

/** Changes the moment, and shows it. */
function move(call) {
  ask(call);
  refresh();
}

function refresh() {
  const text = ask((world) => world.scene());
  if (!text) return;
  scene = JSON.parse(text);
  if (scene.told > story.length) {
    const more = JSON.parse(ask((world) => world.story(story.length)) || '[]');
    story.push(...more);
    announceLines(more);
  }
  render();
}

// ---- Time ----

function play(to) {
  direction = to;
  for (const [id, way] of [['play', 1], ['reverse', -1]]) {
    set($(id), { 'aria-pressed': direction === way });
  }
  set($('play'), { 'aria-label': direction === 1 ? 'Pause' : 'Play' });
}

let before = 0;
function frame(now) {
  const elapsed = Math.min(now - before, 100);
  before = now;
  if (direction !== 0 && world && !$('live').hidden) {
    const micros = elapsed * 1000 * Number($('speed').value);
    ask((world) => direction > 0 ? world.run(micros + owed) : world.run_back(micros));
    // The core counts whole microseconds.
    owed = direction > 0 ? (micros + owed) % 1 : 0;
    refresh();
    if (scene && ((direction > 0 && scene.over) || (direction < 0 && scene.at.micros === 0))) play(0);
  }
  requestAnimationFrame(frame);
}
let owed = 0;

// ---- Words ----

let announced = 0;
function announce(text) {
  say($('announce'), text);
}

/** What matters, at most once a second. */
function announceLines(lines) {
  const matters = lines.filter((line) => ['leader', 'commit', 'down', 'you'].includes(line.class));
  const now = performance.now();
  if (matters.length && now - announced > 1000) {
    announced = now;
    announce(matters[matters.length - 1].text);
  }
}

// ---- The picture ----

const CENTRE = { x: 360, y: 226 };
const NODE = 37;

function place(id, count) {
  const angle = (id - 1) / count * 2 * Math.PI - Math.PI / 2;
  return { x: CENTRE.x + Math.cos(angle) * 255, y: CENTRE.y + Math.sin(angle) * (count > 5 ? 168 : 148) + (count === 3 ? 14 : 0) };
}

function build(count) {
  const arena = $('arena');
  arena.replaceChildren();
  const links = draw('g', {}, arena);
  const nodes = draw('g', {}, arena);
  const flights = draw('g', { 'pointer-events': 'none', 'aria-hidden': 'true' }, arena);
  picture = { count, links: new Map(), nodes: new Map(), flights, flying: new Map() };
  for (let a = 1; a <= count; a++) {
    for (let b = a + 1; b <= count; b++) buildLink(links, a, b, count);
  }
  for (let id = 1; id <= count; id++) buildNode(nodes, id, count);
}

function buildLink(parent, a, b, count) {
  const [from, to] = [place(a, count), place(b, count)];
  const ends = { x1: from.x, y1: from.y, x2: to.x, y2: to.y };
  const group = draw('g', {}, parent);
  const hit = draw('line', { ...ends, class: 'hit', role: 'button', tabindex: 0 }, group);
  draw('line', { ...ends, class: 'link', 'pointer-events': 'none' }, group);
  onPress(hit, () => toggleLink(a, b));
  picture.links.set(`${a}-${b}`, hit);
}

function buildNode(parent, id, count) {
  const at = place(id, count);
  const group = draw('g', { class: 'node', role: 'button', tabindex: 0, transform: `translate(${at.x} ${at.y})` }, parent);
  draw('circle', { r: NODE + 10, class: 'halo' }, group);
  draw('circle', { r: NODE, class: 'body' }, group);
  draw('circle', { r: NODE, class: 'fill' }, group);
  const timer = draw('path', { class: 'timer' }, group);
  const term = draw('text', { class: 'term', y: 4 }, group);
  draw('text', { class: 'cap', y: 19 }, group, 'term');
  const name = draw('text', { class: 'name', y: -NODE - 14 }, group, `S${id}`);
  const role = draw('text', { class: 'role', y: NODE + 24 }, group);
  const note = draw('text', { class: 'note', y: NODE + 39 }, group);
  onPress(group, () => choose(id));
  picture.nodes.set(id, { group, timer, term, name, role, note });
}

function onPress(element, action) {
  element.addEventListener('click', action);
  element.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      event.stopPropagation();
      action();
    }
  });
}

/** An arc from the top, clockwise; `share` of the whole circle. */
function arc(radius, share) {
  if (share <= 0) return '';
  const angle = Math.min(share, 0.9999) * 2 * Math.PI;
  const [x, y] = [Math.sin(angle) * radius, -Math.cos(angle) * radius];
  return `M0 ${-radius}A${radius} ${radius} 0 ${angle > Math.PI ? 1 : 0} 1 ${x.toFixed(2)} ${y.toFixed(2)}`;
}

function render() {
  if (!picture || picture.count !== scene.servers.length) build(scene.servers.length);
  const cut = new Set(scene.cut.map(([a, b]) => `${a}-${b}`));
  for (const [name, hit] of picture.links) {
    const isCut = cut.has(name);
    set(hit, { class: isCut ? 'hit cut' : 'hit', 'aria-label': `Link S${name.replace('-', ' to S')}: ${isCut ? 'cut, press to mend' : 'whole, press to cut'}` });
  }
  for (const server of scene.servers) renderNode(server);
  renderFlights();
  renderTime();
  renderLogs();
  renderServer();
  renderStory();
}

function renderNode(server) {
  const node = picture.nodes.get(server.id);
  const isChosen = server.id === chosen ? ' chosen' : '';
  const word = server.state === 'paused' ? `paused ${server.role}` : server.state;
  set(node.group, { class: `node ${server.state}${isChosen}`, 'aria-label': `S${server.id}, ${word}, term ${server.term}, log of ${last(server)} entries, committed ${server.commit}` });
  say(node.term, String(server.term));
  say(node.role, server.state === 'leader' ? '★ leader' : word);
  const vote = server.voted_for && server.state !== 'leader' ? `voted for S${server.voted_for}` : '';
  const waits = gated(server).length ? 'waits for its disk' : '';
  const busy = server.writes ? `disk: ${server.writes} write${server.writes > 1 ? 's' : ''}` : '';
  say(node.note, waits || busy || vote);
  set(node.note, { class: waits || busy ? 'note busy' : 'note' });
  let share = 0;
  if (server.wake && server.wake[1] === 'election' && server.state !== 'paused') {
    share = Math.max(0, server.wake[0] - scene.at.micros) / 1000 / scene.timeouts[1];
  }
  set(node.timer, { d: arc(NODE + 5, share) });
}

/** What a server does not say yet, because its disk has not answered. */
function gated(server) {
  const waiting = server.held.map((held) => `“${held.text}” for S${held.to} waits for write ${held.write}`);
  const [from, to] = [server.durable + 1, last(server)];
  if (server.role && to >= from) {
    const entries = from === to ? `entry ${to} is` : `entries ${from} to ${to} are`;
    waiting.push(server.role === 'leader' ? `its own copy counts once ${entries} durable (thesis 10.2.1)` : `“holds ${to}” waits until ${entries} durable`);
  }
  return waiting;
}

const last = (server) => server.log.length ? server.log[server.log.length - 1].index : 0;

function renderFlights() {
  const seen = new Set();
  for (const flight of scene.flights) {
    seen.add(flight.number);
    let shape = picture.flying.get(flight.number);
    if (!shape) {
      const group = draw('g', { class: `flight ${flight.no ? 'no' : flight.class}` }, picture.flights);
      if (flight.class === 'append') draw('rect', { x: -6, y: -6, width: 12, height: 12, rx: 2 }, group);
      else if (flight.class === 'vote') draw('path', { d: 'M0 -8L8 6H-8z' }, group);
      else draw('circle', { r: flight.class === 'beat' ? 4.5 : 6 }, group);
      if (flight.class !== 'beat' && !flight.text.startsWith('holds')) draw('text', { y: -11 }, group, flight.text);
      shape = group;
      picture.flying.set(flight.number, group);
    }
    const way = (scene.at.micros - flight.sent) / Math.max(1, flight.arrives - flight.sent);
    const at = between(flight.from, flight.to, way);
    shape.setAttribute('transform', `translate(${at.x.toFixed(1)} ${at.y.toFixed(1)})`);
  }
  for (const [number, shape] of picture.flying) {
    if (!seen.has(number)) {
      shape.remove();
      picture.flying.delete(number);
    }
  }
  picture.flights.querySelectorAll('.lost').forEach((cross) => cross.remove());
  for (const lost of scene.lost) {
    const at = between(lost.from, lost.to, 0.12);
    draw('path', { class: 'lost', d: 'M-5 -5L5 5M5 -5L-5 5', transform: `translate(${at.x} ${at.y})` }, picture.flights);
  }
}

/** A point of the lane from one server to another: to the right of the link, from rim to rim. */
function between(from, to, way) {
  const [a, b] = [place(from, picture.count), place(to, picture.count)];
  const length = Math.hypot(b.x - a.x, b.y - a.y);
  const [ux, uy] = [(b.x - a.x) / length, (b.y - a.y) / length];
  const along = NODE + Math.max(0, Math.min(1, way)) * (length - 2 * NODE);
  return { x: a.x + ux * along - uy * 7, y: a.y + uy * along + ux * 7 };
}

function renderTime() {
  const time = $('time');
  set(time, { max: Math.max(1, scene.end.micros) });
  if (document.activeElement !== time || direction !== 0 || time.value !== String(scene.at.micros)) time.value = scene.at.micros;
  set(time, { 'aria-valuetext': seconds(scene.at.micros) });
  say($('clock'), seconds(scene.at.micros));
  for (const id of ['back', 'back-story', 'reverse']) $(id).disabled = scene.at.micros === 0;
  for (const id of ['step', 'step-story', 'play']) $(id).disabled = scene.over;
}

// ---- Logs and the chosen server ----

function renderLogs() {
  const logs = $('logs');
  while (logs.children.length > scene.servers.length) logs.lastChild.remove();
  const width = Math.max(3, Math.floor((logs.clientWidth - 130) / 60));
  const first = Math.max(1, Math.max(...scene.servers.map(last)) - width + 1);
  for (const server of scene.servers) {
    let row = logs.children[server.id - 1];
    if (!row) {
      const head = make('button', { type: 'button' }, make('b'), make('small'));
      head.addEventListener('click', () => choose(server.id));
      row = make('div', { className: 'row' }, head);
      logs.append(row);
    }
    const head = row.firstChild;
    set(head, { class: `${server.state}${server.id === chosen ? ' chosen' : ''}`, 'aria-pressed': 'false' });
    head.removeAttribute('aria-pressed');
    say(head.children[0], `S${server.id} ${server.state}`);
    say(head.children[1], `term ${server.term}, commit ${server.commit}`);
    const cells = server.log.filter((cell) => cell.index >= first);
    while (row.children.length > cells.length + 1) row.lastChild.remove();
    cells.forEach((cell, at) => renderCell(row, at + 1, cell, server));
  }
}

function renderCell(row, at, cell, server) {
  let element = row.children[at];
  if (!element) {
    element = make('div', {}, make('span'), make('small'));
    row.append(element);
  }
  const state = cell.index <= server.applied && server.role ? 'app' : cell.index <= server.commit && cell.index <= server.durable ? 'com' : cell.index <= server.durable ? 'dur' : 'mem';
  const words = { app: 'applied', com: 'committed', dur: 'durable', mem: 'in memory' }[state];
  set(element, { class: `cell ${state}`, style: `--t: var(--t${cell.term % 8})`, title: `entry ${cell.index} of term ${cell.term}: ${cell.text}; ${words}` });
  say(element.children[0], cell.text);
  say(element.children[1], `${cell.index} · t${cell.term}`);
}

function renderServer() {
  const server = scene.servers[chosen - 1];
  const isUp = server.role !== null;
  say($('server-name'), `S${server.id}, ${server.state}`);
  set($('server-name'), { class: server.state });
  say($('kill'), isUp ? 'Kill' : 'Start');
  say($('pause'), server.state === 'paused' ? 'Resume' : 'Pause');
  $('pause').disabled = !isUp;
  $('propose').disabled = !isUp;
  const isAlone = scene.servers.length - 1 === scene.cut.filter((pair) => pair.includes(server.id)).length;
  say($('isolate'), isAlone ? 'Mend its links' : 'Cut off');
  if (document.activeElement !== $('disk')) $('disk').value = String(server.disk);
  const facts = [
    ['term', server.term], ['voted for', server.voted_for ? `S${server.voted_for}` : 'nobody'], ['leader', server.leader ? `S${server.leader}` : 'none known'],
    ['log', `${last(server)} entries, durable to ${server.durable}`],
    ['committed', `${server.commit}, applied ${server.applied}`],
    ['state', server.registers.length ? server.registers.map((value, at) => `${'wxyz'[at]}=${value}`).join('  ') : 'lost'],
    ['disk', server.writes ? `${server.writes} writes under way` : 'idle'],
    ['timer', server.wake && isUp ? `${server.wake[1]} in ${(Math.max(0, server.wake[0] - scene.at.micros) / 1000).toFixed(1)} ms` : 'none'],
  ];
  if (server.peers.length) facts.push(['followers', server.peers.map((peer) => `S${peer.id} holds ${peer.matched}`).join(', ')]);
  const list = $('facts');
  while (list.children.length > 2 * facts.length) list.lastChild.remove();
  facts.forEach(([name, value], at) => {
    if (!list.children[2 * at]) list.append(make('dt'), make('dd'));
    say(list.children[2 * at], name);
    say(list.children[2 * at + 1], String(value));
  });
  const gate = $('gate');
  const held = gated(server);
  while (gate.children.length > held.length) gate.lastChild.remove();
  held.forEach((text, at) => {
    if (!gate.children[at]) gate.append(make('li'));
    say(gate.children[at], text);
  });
}

function choose(id) {
  if (id > scene.servers.length) return;
  chosen = id;
  render();
}

// ---- The story ----

const LINES_SHOWN = 400;
let shown = [];

function renderStory() {
  const list = $('story');
  // The same lines as before: only which of them lie ahead may differ.
  const from = Math.max(0, story.length - LINES_SHOWN);
  while (shown.length && (shown[shown.length - 1].number >= story.length || shown[shown.length - 1].line !== story[shown[shown.length - 1].number])) shown.pop().element.remove();
  while (shown.length && shown[0].number < from) shown.shift().element.remove();
  if (!shown.length) list.replaceChildren();
  let isNew = false;
  for (let number = shown.length ? shown[shown.length - 1].number + 1 : from; number < story.length; number++) {
    const line = story[number];
    const element = make('li', { className: line.class }, make('time', {}, seconds(line.at.micros)), line.text);
    element.addEventListener('click', () => {
      play(0);
      move((world) => world.go_to(line.at.micros, line.at.events));
    });
    list.append(element);
    shown.push({ number, line, element });
    isNew = true;
  }
  for (const { number, element } of shown) element.classList.toggle('ahead', number >= scene.told);
  if (isNew) list.scrollTop = list.scrollHeight;
}

// ---- What a person does ----

function toggleLink(a, b) {
  const isCut = scene.cut.some(([x, y]) => x === a && y === b);
  act({ do: isCut ? 'mend' : 'cut', a, b });
}

const server = () => scene.servers[chosen - 1];
const ACTIONS = {
  propose: () => act({ do: 'propose', id: chosen }),
  kill: () => act({ do: server().role ? 'kill' : 'start', id: chosen }),
  pause: () => act({ do: server().state === 'paused' ? 'resume' : 'pause', id: chosen }),
  isolate: () => {
    const cut = scene.cut.filter((pair) => pair.includes(chosen));
    if (cut.length < scene.servers.length - 1) act({ do: 'isolate', id: chosen });
    else cut.forEach(([a, b]) => act({ do: 'mend', a, b }));
  },
  mend: () => act({ do: 'mend-all' }),
  play: () => play(direction === 1 ? 0 : 1),
  reverse: () => play(direction === -1 ? 0 : -1),
  step: () => still((world) => world.step()),
  back: () => still((world) => world.step_back()),
  'step-story': () => still((world) => world.step_story()),
  'back-story': () => still((world) => world.back_story()),
  new: () => begin(Number($('servers').value), Number($('seed').value) >>> 0),
  'panic-new': () => begin(Number($('servers').value), Number($('seed').value) >>> 0),
  'set-timeouts': () => act({ do: 'timeouts', min: whole('timeout-min'), max: whole('timeout-max') }),
  'set-network': () => act({ do: 'network', ms: whole('latency'), loss: whole('loss') }),
};

function still(call) {
  play(0);
  move(call);
}

const whole = (id) => Math.max(0, Math.round(Number($(id).value) || 0));

const KEYS = { ' ': 'play', r: 'reverse', p: 'propose', k: 'kill', z: 'pause', i: 'isolate', m: 'mend' };

function onKey(event) {
  if ($('live').hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest('input, select, textarea, button, [role=tab]') && (event.key === ' ' || !event.target.closest('button'))) return;
  const arrows = { ArrowRight: event.shiftKey ? 'step-story' : 'step', ArrowLeft: event.shiftKey ? 'back-story' : 'back' };
  const name = arrows[event.key] || KEYS[event.key.toLowerCase()];
  if (name) {
    event.preventDefault();
    if (!$(name)?.disabled) ACTIONS[name]();
  } else if (event.key >= '1' && event.key <= '7') {
    choose(Number(event.key));
  }
}

// ---- Lessons ----

const LESSONS = [
  ['The leader dies (§5.2)', 'The others hear no heartbeat. One of them asks for votes, and leads a higher term.', () => {
    const id = leader();
    act({ do: 'kill', id });
    choose(id);
  }],
  ['A leader without a majority (§5.3, §5.4)', 'The leader and one follower are cut off, and a client still gives it a command. It is appended, and never committed. Mend the links, and it is replaced.', () => {
    const id = leader();
    const friend = id % scene.servers.length + 1;
    for (const one of scene.servers) {
      for (const mine of [id, friend]) if (one.id !== id && one.id !== friend) act({ do: 'cut', a: mine, b: one.id });
    }
    act({ do: 'propose', id });
    choose(id);
  }],
  ['A slow disk (Figure 2)', 'A follower’s disk takes 200 ms. Its replies wait at the gate, and the majority commits without it.', () => {
    const id = leader();
    const slow = id % scene.servers.length + 1;
    act({ do: 'disk', id: slow, ms: 200 });
    act({ do: 'propose', id });
    choose(slow);
  }],
  ['An old log cannot win (§5.4.1)', 'A follower misses an entry, because it is cut off. Then the leader dies and the links are mended: the others refuse it their votes.', () => {
    const id = leader();
    const behind = id % scene.servers.length + 1;
    act({ do: 'isolate', id: behind });
    act({ do: 'propose', id });
    ask((world) => world.run(60000));
    act({ do: 'kill', id });
    act({ do: 'mend-all' });
    choose(behind);
  }],
];

/** The leader; time passes until there is one. */
function leader() {
  act({ do: 'mend-all' });
  for (let tries = 0; tries < 300 && !scene.leader; tries++) {
    for (const one of scene.servers) if (!one.role) act({ do: 'start', id: one.id });
    move((world) => world.run(20000));
  }
  return scene.leader || 1;
}

function buildLessons() {
  for (const [title, text, run] of LESSONS) {
    const button = make('button', { type: 'button' }, title);
    button.addEventListener('click', () => {
      run();
      play(1);
    });
    $('lessons').append(make('li', {}, button, make('p', {}, text)));
  }
}

// ---- Tabs ----

function showTab(name) {
  for (const other of ['live', 'recorded']) {
    $(other).hidden = other !== name;
    set($(`tab-${other}`), { 'aria-selected': other === name, tabindex: other === name ? 0 : -1 });
  }
  if (name === 'live' && scene) render();
}

for (const name of ['live', 'recorded']) {
  $(`tab-${name}`).addEventListener('click', () => showTab(name));
  $(`tab-${name}`).addEventListener('keydown', (event) => {
    if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
      const other = name === 'live' ? 'recorded' : 'live';
      showTab(other);
      $(`tab-${other}`).focus();
    }
  });
}

// ---- Begin ----

/* recorded.js */
/* selftest.js */

function start() {
  const core = Uint8Array.from(atob($('core').textContent.trim()), (letter) => letter.charCodeAt(0));
  wasm_bindgen.initSync({ module: core });
  for (const [id, action] of Object.entries(ACTIONS)) $(id).addEventListener('click', action);
  $('disk').addEventListener('change', () => act({ do: 'disk', id: chosen, ms: Number($('disk').value) }));
  $('time').addEventListener('input', () => {
    play(0);
    const micros = Number($('time').value);
    move((world) => micros >= scene.at.micros ? world.run(micros - scene.at.micros) : world.run_back(scene.at.micros - micros));
  });
  document.addEventListener('keydown', onKey);
  window.addEventListener('resize', () => scene && render());
  buildLessons();
  setUpRecordings();
  const wish = new URLSearchParams(location.hash.slice(1));
  if (wish.has('servers')) $('servers').value = wish.get('servers');
  if (wish.has('seed')) $('seed').value = wish.get('seed');
  begin(Number($('servers').value), Number($('seed').value) >>> 0);
  requestAnimationFrame(frame);
  if (wish.has('selftest')) selftest();
  else if (wish.has('still')) stillLife();
  else if (wish.has('sample')) addEventListener('load', () => selftestRecording(() => {}).then(() => showTab('recorded')));
  else play(1);
}

start();

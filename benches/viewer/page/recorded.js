// Recordings: files are dropped in, replayed by the core, and stepped through line by line.

let tape = null;
let summary = null;
let line = 0;

/** Replays files: a list of [name, bytes]. */
function replayFiles(files) {
  summary = null;
  tape = new wasm_bindgen.Tape();
  for (const [name, bytes] of files) tape.add(name, bytes);
  try {
    summary = JSON.parse(tape.replay());
  } catch (error) {
    $('rec-summary').textContent = typeof error === 'string' ? error : `The replay stopped: ${error}`;
    $('rec-body').hidden = true;
    return;
  }
  $('rec-summary').textContent = summary.text;
  $('rec-notes').replaceChildren(...summary.notes.map((note) => make('li', {}, note)));
  $('rec-fault').hidden = summary.fault === null;
  $('rec-fault').textContent = summary.fault || '';
  $('rec-body').hidden = summary.lines.length === 0;
  $('rec-time').max = Math.max(0, summary.lines.length - 1);
  $('rec-story').replaceChildren(...summary.lines.map((told, at) => {
    const element = make('li', { className: / leads term /.test(told.text) ? 'leader' : / stands | asks /.test(told.text) ? 'candidate' : '' }, make('time', {}, seconds(told.micros)), told.text);
    element.addEventListener('click', () => goToLine(at));
    return element;
  }));
  goToLine(0);
}

function goToLine(to) {
  if (!summary?.lines.length) return;
  line = Math.max(0, Math.min(summary.lines.length - 1, to));
  const told = summary.lines[line];
  $('rec-time').value = line;
  set($('rec-time'), { 'aria-valuetext': told.text });
  say($('rec-clock'), seconds(told.micros));
  say($('rec-now'), told.text);
  $('rec-back').disabled = line === 0;
  $('rec-step').disabled = line === summary.lines.length - 1;
  [...$('rec-story').children].forEach((element, at) => {
    element.classList.toggle('ahead', at > line);
    element.classList.toggle('here', at === line);
  });
  const here = $('rec-story').children[line];
  $('rec-story').scrollTop = here.offsetTop - $('rec-story').offsetTop - 100;
  const states = JSON.parse(tape.states(line));
  const longest = Math.max(1, ...states.map((state) => state.last));
  $('rec-servers').replaceChildren(...states.map((state) => {
    const bar = (name, value) => make('i', { className: name, style: `width:${value / longest * 100}%` });
    return make('div', { className: `rec-server ${state.role}${state.id === told.server ? ' here' : ''}` },
      make('b', {}, `S${state.id} ${state.role}`),
      make('span', {}, `term ${state.term}, voted for ${state.voted_for ? `S${state.voted_for}` : 'nobody'}, leader ${state.leader ? `S${state.leader}` : 'unknown'}`),
      make('div', { className: 'bar' }, bar('last', state.last), bar('durable', state.durable), bar('commit', state.commit), bar('applied', state.applied)),
      make('small', {}, `log ${state.last}, durable ${state.durable}, committed ${state.commit}, applied ${state.applied}`));
  }));
}

async function readFiles(files) {
  replayFiles(await Promise.all([...files].map(async (file) => [file.name, new Uint8Array(await file.arrayBuffer())])));
}

function setUpRecordings() {
  $('rec-files').addEventListener('change', (event) => readFiles(event.target.files));
  $('rec-back').addEventListener('click', () => goToLine(line - 1));
  $('rec-step').addEventListener('click', () => goToLine(line + 1));
  $('rec-time').addEventListener('input', (event) => goToLine(Number(event.target.value)));
  document.addEventListener('keydown', (event) => {
    if ($('recorded').hidden || event.target.closest('input, [role=tab]')) return;
    if (event.key === 'ArrowLeft') goToLine(line - 1);
    else if (event.key === 'ArrowRight') goToLine(line + 1);
  });
  // Files may be dropped anywhere.
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    showTab('recorded');
    readFiles(event.dataTransfer.files);
  });
}

/** The recordings that ../test.sh puts behind the page. */
async function selftestRecording(check) {
  const sample = $('sample');
  check('the test has recordings', sample !== null);
  const files = sample.textContent.trim().split('\n').map((text) => {
    const [name, bytes] = text.split(' ');
    return [name, Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))];
  });
  $('tab-recorded').click();
  replayFiles([['nonsense.rec', new Uint8Array([1, 2, 3])]]);
  check('what is no recording is named', $('rec-summary').textContent.includes('nonsense.rec is no recording'));
  replayFiles(files);
  check(`recordings are replayed: ${summary?.text}`, summary?.fault === null && summary.text.startsWith('3 servers'));
  const elected = summary.lines.findIndex((told) => / leads term /.test(told.text));
  check('their story tells of an election', elected > 0);
  goToLine(elected);
  check('the leader is shown', document.querySelector('#rec-servers .leader') !== null);
  $('rec-back').click();
  check('a step back is the line before', line === elected - 1);
  goToLine(0);
  check('and at the beginning nobody leads', document.querySelector('#rec-servers .leader') === null);
  for (let tries = 0; tries < elected; tries++) $('rec-step').click();
  check('and a step forward after it', document.querySelector('#rec-servers .leader') !== null);
  $('tab-live').click();
}

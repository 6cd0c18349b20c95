// The page tests itself when its address ends with #selftest, and writes what it found into the document: see ../test.sh.

/** A moment worth a picture, for the README. */
function stillLife() {
  for (const id of [leader(), leader(), leader()]) {
    act({ do: 'propose', id });
    ask((world) => world.run(40000));
  }
  const first = leader();
  act({ do: 'kill', id: first });
  const second = leader();
  act({ do: 'propose', id: second });
  ask((world) => world.run(60000));
  const slow = second % scene.servers.length + 1;
  act({ do: 'disk', id: slow, ms: 200 });
  choose(slow);
  for (let at = 0; at < 3; at++) {
    act({ do: 'propose', id: second });
    move((world) => world.run(16000));
  }
  const others = scene.servers.filter((one) => one.id !== second && one.id !== slow).map((one) => one.id);
  act({ do: 'cut', a: others[0], b: others[1] });
  act({ do: 'propose', id: second });
  move((world) => world.run(5500));
}

async function selftest() {
  const report = document.body.appendChild(make('pre', { id: 'report' }));
  const lines = [];
  const check = (what, holds) => {
    lines.push(`${holds ? 'ok' : 'FAILED'}: ${what}`);
  };
  try {
    // The recordings stand behind this script.
    if (document.readyState !== 'complete') await new Promise((done) => addEventListener('load', done));
    await selftestSteps(check);
    lines.push(lines.some((line) => line.startsWith('FAILED')) ? 'SELFTEST FAILED' : 'SELFTEST PASSED');
  } catch (error) {
    lines.push(`SELFTEST FAILED: ${error}\n${error.stack}`);
  }
  report.textContent = lines.join('\n');
}

const frames = (count) => new Promise((done) => {
  const next = () => count-- > 0 ? requestAnimationFrame(next) : done();
  next();
});

async function selftestSteps(check) {
  const hash = () => ask((world) => world.hash());
  const press = (id) => $(id).click();
  check('a cluster of five is drawn', picture.nodes.size === 5 && picture.links.size === 10);

  $('speed').value = '5';
  press('play');
  for (let tries = 0; tries < 600 && !scene.leader; tries++) await frames(1);
  press('play');
  const first = scene.leader;
  check('while it plays, a leader is elected', first !== null && direction === 0);

  choose(first);
  press('propose');
  for (let tries = 0; tries < 200; tries++) press('step');
  check('a command is applied on all servers', scene.servers.every((one) => one.applied >= 2));

  for (const one of scene.servers) {
    const link = picture.links.get(`${Math.min(one.id, first)}-${Math.max(one.id, first)}`);
    if (link) link.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));
  }
  check('its links are cut by the keyboard', scene.cut.length === 4);
  const cutAt = { hash: hash(), at: { ...scene.at } };
  for (let tries = 0; tries < 300 && (scene.leader === first || !scene.leader); tries++) press('step-story');
  const second = scene.leader;
  check('the others elect another leader', second !== null && second !== first);
  check('the story tells of it', [...$('story').children].some((line) => line.textContent.includes(`S${second} leads term`)));

  const later = { hash: hash(), at: { ...scene.at }, told: scene.told };
  press('back');
  check('a step back is another state', hash() !== later.hash && scene.at.events < later.at.events);
  press('step');
  check('and a step forward the same one', hash() === later.hash);
  for (let tries = 0; tries < 300 && scene.at.micros > cutAt.at.micros; tries++) press('back-story');
  check('the way back leads to before the election', scene.leader === first || scene.at.micros < cutAt.at.micros);
  move((world) => world.go_to(later.at.micros, later.at.events));
  check('the way forth is the same run', hash() === later.hash && scene.told === later.told);

  $('time').value = 0;
  $('time').dispatchEvent(new Event('input'));
  check('the slider leads to the beginning', scene.at.micros === 0 && scene.told === 0);

  const began = performance.now();
  for (let at = 0; at < 200; at++) move((world) => world.run(555));
  const each = (performance.now() - began) / 200;
  check(`a frame takes ${each.toFixed(2)} ms, less than 1/60 s`, each < 16);

  await selftestRecording(check);

  showPanic('seed 1: a panic for the test');
  check('a panic is shown with its seed', !$('panic').hidden && $('panic-text').textContent.includes('seed 1'));
  press('play');
  press('step');
  press('panic-new');
  check('and the page goes on', $('panic').hidden && scene.servers.length === 5 && scene.at.micros === 0);
}

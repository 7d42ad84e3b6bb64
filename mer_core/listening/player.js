// Upgrades the plain markup of a listening figure into one player. Keys: space, arrows, and a letter or digit for each
// version. Starting it stops every other player of the page. Returns a function that stops and detaches it.
const listeningClock = s =>
  Number.isFinite(s) ? `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, '0')}` : '–:––';

function listeningPlayer(root) {
  const versions = [...root.querySelectorAll('.version')].map((row, i) => ({
    audio: row.querySelector('audio'),
    key: String.fromCharCode(65 + i),
    name: row.querySelector('.name').textContent,
    about: row.querySelector('.about').textContent,
  }));
  if (!versions.length || root.classList.contains('live')) return () => {};
  const make = (tag, kind, facts = {}) => {
    const element = Object.assign(document.createElement(tag), facts);
    element.className = kind;
    return element;
  };
  const map = root.querySelector('.map');
  const cursor = make('i', 'cursor');
  const transport = make('div', 'transport');
  const play = make('button', 'play', { type: 'button' });
  const choices = make('div', 'choices');
  const time = make('span', 'time');
  const said = make('p', 'said');
  const line = make('div', 'line');
  const slide = Object.assign(document.createElement('input'), { type: 'range', min: 0, max: 1, step: 0.01, value: 0 });
  slide.setAttribute('aria-label', 'Position in seconds');
  line.append(slide);
  said.setAttribute('aria-live', 'polite');
  choices.setAttribute('role', 'group');
  choices.setAttribute('aria-label', 'What to hear');
  let now = 0, wanted = 0, frame = 0;
  const active = () => versions[now].audio;
  const length = () => versions.map(v => v.audio.duration).find(Number.isFinite) || 0;

  const buttons = versions.map((version, i) => {
    const button = make('button', '', { type: 'button' });
    const key = document.createElement('kbd');
    key.textContent = version.key;
    button.append(key, version.name);
    button.onclick = () => use(i);
    return button;
  });
  choices.append(...buttons);
  transport.append(play, choices, time, line, said);
  root.append(transport);
  if (map) map.append(cursor);
  root.tabIndex = 0;
  root.classList.add('live');

  const position = () => (active().readyState ? active().currentTime : wanted);
  const paint = () => {
    const whole = length(), at = position();
    cursor.style.left = `${whole ? 100 * at / whole : 0}%`;
    slide.max = whole || 1;
    slide.value = at;
    slide.setAttribute('aria-valuetext', `${at.toFixed(1)} of ${whole.toFixed(1)} seconds`);
    time.textContent = `${listeningClock(at)} / ${listeningClock(whole || NaN)}`;
    play.textContent = active().paused ? '▶' : '❚❚';
    play.setAttribute('aria-label', `${active().paused ? 'Play' : 'Pause'} ${versions[now].name}`);
    buttons.forEach((button, i) => button.setAttribute('aria-pressed', String(i === now)));
  };
  const follow = () => { paint(); frame = active().paused ? 0 : requestAnimationFrame(follow); };
  const tell = () => { said.textContent = `${versions[now].name}: ${versions[now].about}`; };
  const seek = seconds => {
    wanted = Math.max(0, Math.min(length() || seconds, seconds));
    if (active().readyState) active().currentTime = wanted;
    paint();
  };
  const use = next => {
    if (next === now || !versions[next]) return;
    const at = position(), playing = !active().paused, audio = versions[next].audio;
    active().pause();
    now = next;
    wanted = at;
    if (audio.readyState) audio.currentTime = at; else audio.load();
    if (playing) audio.play();
    tell();
    paint();
  };
  const toggle = () => { if (active().paused) active().play(); else active().pause(); };

  versions.forEach((version, i) => {
    const audio = version.audio;
    audio.controls = false;
    audio.preload = 'auto';
    audio.onloadedmetadata = () => { if (i === now && wanted) audio.currentTime = wanted; paint(); };
    audio.onplay = () => { window.dispatchEvent(new CustomEvent('mer-play', { detail: audio })); follow(); };
    audio.onpause = audio.onended = audio.onseeked = () => { if (i === now) paint(); };
    audio.onerror = () => { if (i === now) said.textContent = `${version.name}: this browser cannot play the file.`; };
  });
  play.onclick = toggle;
  slide.oninput = () => seek(Number(slide.value));
  if (map) map.onclick = event => {
    const box = map.getBoundingClientRect();
    seek((event.clientX - box.left) / box.width * length());
  };
  root.onkeydown = event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toUpperCase();
    const chosen = versions.findIndex((version, i) => version.key === key || String(i + 1) === key);
    if (chosen >= 0) { use(chosen); buttons[chosen].focus({ preventScroll: true }); }
    else if (key === ' ' && event.target.tagName !== 'BUTTON') toggle();
    else if (key === 'ARROWRIGHT' && event.target !== slide) seek(position() + 1);
    else if (key === 'ARROWLEFT' && event.target !== slide) seek(position() - 1);
    else return;
    event.preventDefault();
  };
  const stopOthers = event => { if (versions.every(v => v.audio !== event.detail)) active().pause(); };
  window.addEventListener('mer-play', stopOthers);
  tell();
  paint();
  return () => {
    cancelAnimationFrame(frame);
    window.removeEventListener('mer-play', stopOthers);
    versions.forEach(version => version.audio.pause());
  };
}

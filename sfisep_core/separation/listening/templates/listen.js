// The page around the players: what is heard, what is drawn, and the ways to control it.

const $ = id => document.getElementById(id);
const seconds = Number(document.body.dataset.seconds);
const rows = [...document.querySelectorAll('.track')];
const tracks = rows.map(row => ({
  row,
  audio: row.querySelector('audio'),
  solo: row.querySelector('.solo'),
  mute: row.querySelector('.mute'),
  volume: row.querySelector('.volume'),
  name: row.getAttribute('aria-label'),
}));
const lanes = [...document.querySelectorAll('.lane')];
const ensemble = new Ensemble(tracks.map(track => track.audio), seconds);
// iOS leaves volume to the device: sliders would do nothing there.
const volumeWorks = setsVolume(new Audio());
let range = null;  // what `Loop` repeats, switched on or not

const pressed = button => button.getAttribute('aria-pressed') === 'true';
const press = (button, on) => button.setAttribute('aria-pressed', on);

function time(value, digits = 0) {
  const rounded = Number(value.toFixed(digits));
  const hours = Math.floor(rounded / 3600), minutes = Math.floor(rounded / 60) % 60;
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, '0');
  return (hours ? `${hours}:${String(minutes).padStart(2, '0')}` : minutes) + `:${rest}`;
}

// ---- what is heard

function setsVolume(audio) {
  audio.volume = 0.5;
  return audio.volume === 0.5;
}

// -120 dB, rather than `muted` or a volume of 0: Chromium takes such an element to another output, and
// its clock jumps by some 40 ms on the way.
const SILENT = 1e-6;

function mix() {
  const solo = tracks.some(track => pressed(track.solo));
  for (const track of tracks) {
    const heard = solo ? pressed(track.solo) : !pressed(track.mute);
    // A square, as loudness is heard: half way is 12 dB down.
    const volume = (track.volume.value / 100) ** 2;
    if (volumeWorks) track.audio.volume = heard ? Math.max(volume, SILENT) : SILENT;
    else track.audio.muted = !heard;
    track.row.classList.toggle('silent', !heard);
  }
}

function toggle(button) { press(button, !pressed(button)); mix(); }

function hearAll() {
  for (const track of tracks) { press(track.solo, false); press(track.mute, false); }
  mix();
}

function setRange(start, end) {
  range = { start: Math.max(0, start), end: Math.min(seconds, end) };
  setLoop(true);
}

function setLoop(on) {
  if (on && !range) range = { start: 0, end: seconds };
  press($('loop'), on);
  ensemble.loop = on ? range : null;
  for (const lane of lanes) {
    lane.classList.toggle('looped', on);
    lane.style.setProperty('--from', range ? range.start / seconds : 0);
    lane.style.setProperty('--to', range ? range.end / seconds : 1);
  }
  const all = !range || (range.start === 0 && range.end === seconds);
  $('range').textContent = all ? 'all' : `${time(range.start, 1)} – ${time(range.end, 1)}`;
}

function loopFrom(start) {
  setRange(start, range && range.end > start + 0.05 ? range.end : seconds);
}

function loopTo(end) {
  setRange(range && range.start < end - 0.05 ? range.start : 0, end);
}

function playOrPause() { if (ensemble.playing) ensemble.pause(); else ensemble.play(); }

// ---- what is shown

function showState() {
  const playing = ensemble.playing;
  document.body.classList.toggle('playing', playing);
  document.body.classList.toggle('waiting', ensemble.waiting);
  $('play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
  if ('mediaSession' in navigator)
    navigator.mediaSession.playbackState = playing ? 'playing' : 'paused';
  showPosition();
}

let shownSecond = null;
function showPosition() {
  const position = ensemble.position;
  $('position').textContent = time(position, 1);
  for (const lane of lanes) lane.style.setProperty('--at', seconds ? position / seconds : 0);
  if (Math.floor(position) !== shownSecond) {
    shownSecond = Math.floor(position);
    $('seek').setAttribute('aria-valuenow', shownSecond);
    $('seek').setAttribute('aria-valuetext', `${time(shownSecond)} of ${time(seconds)}`);
  }
}

function animate() {
  if (!ensemble.playing) return;
  showPosition();
  requestAnimationFrame(animate);
}

ensemble.addEventListener('change', () => { mix(); showState(); animate(); });
ensemble.addEventListener('refused', event => {
  $('status').textContent = event.detail.name === 'NotAllowedError'
    ? 'The browser did not start the sound: press Play again.'
    : `The browser did not start the sound: ${event.detail.message}`;
});

function drawWaveform(canvas) {
  const peaks = Int8Array.from(atob(canvas.dataset.peaks), letter => letter.charCodeAt(0));
  const count = peaks.length / 2, scale = devicePixelRatio;
  const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
  if (!width || !height) return;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d'), middle = height / 2;
  context.fillStyle = getComputedStyle(canvas).color;
  for (let x = 0; x < width; x++) {
    const first = Math.floor(x * count / width);
    const last = Math.max(first + 1, Math.floor((x + 1) * count / width));
    let low = 0, high = 0;
    for (let column = first; column < last; column++) {
      low = Math.min(low, peaks[column]);
      high = Math.max(high, peaks[count + column]);
    }
    const top = middle - high / 127 * middle, bottom = middle - low / 127 * middle;
    context.fillRect(x, top, 1, Math.max(scale, bottom - top));
  }
}

function drawTicks() {
  const ticks = document.querySelector('.ticks');
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000];
  const most = Math.max(1, ticks.clientWidth / 70);
  const step = steps.find(value => seconds / value <= most) ?? 36000;
  ticks.replaceChildren();
  for (let number = 0; number * step <= seconds && seconds > 0; number++) {
    const tick = document.createElement('span');
    tick.textContent = time(number * step, step < 1 ? 1 : 0);
    tick.style.left = `${100 * number * step / seconds}%`;
    if (number * step > 0.94 * seconds) tick.className = 'last';
    ticks.append(tick);
  }
}

function draw() {
  for (const canvas of document.querySelectorAll('canvas')) drawWaveform(canvas);
  drawTicks();
}

// ---- controls

for (const track of tracks) {
  track.solo.addEventListener('click', () => toggle(track.solo));
  track.mute.addEventListener('click', () => toggle(track.mute));
  track.volume.addEventListener('input', mix);
  track.volume.addEventListener('dblclick', () => { track.volume.value = 100; mix(); });
  track.audio.controls = false;
  track.audio.addEventListener('error', () => {
    const note = track.row.querySelector('.note');
    note.textContent = track.audio.error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED
      ? `This browser cannot play ${decodeURIComponentSafely(track.audio.getAttribute('src'))}: `
        + 'it is not there, or its format is unknown here. Write stems as WAV, FLAC or MP3.'
      : 'Playing it failed: its file is damaged, or could not be read to the end.';
    note.hidden = false;
    track.row.classList.add('unplayable');
    for (const control of [track.solo, track.mute, track.volume]) control.disabled = true;
  });
  press(track.mute, track.row.dataset.muted === 'true');
}

function decodeURIComponentSafely(text) {
  try { return decodeURIComponent(text.slice(2)); } catch { return text.slice(2); }
}

$('play').addEventListener('click', playOrPause);
$('loop').addEventListener('click', () => setLoop(!pressed($('loop'))));
$('loop-from').addEventListener('click', () => loopFrom(ensemble.position));
$('loop-to').addEventListener('click', () => loopTo(ensemble.position));
$('reset').addEventListener('click', hearAll);
$('view').addEventListener('change', () => {
  document.querySelector('main').dataset.view = $('view').value;
  draw();
});
// After a click the space bar plays or pauses again, rather than clicking once more.
document.addEventListener('click', event => {
  if (event.detail > 0) event.target.closest('button')?.blur();
});

// A click goes to a place, a drag chooses the range to loop.
const LEAST_DRAG = 6;  // pixels
for (const lane of lanes) {
  let from = null, dragged = false;
  const place = event => {
    const box = lane.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * seconds;
  };
  lane.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    from = { x: event.clientX, place: place(event) };
    dragged = false;
  });
  lane.addEventListener('pointermove', event => {
    if (!from) return;
    if (!dragged && Math.abs(event.clientX - from.x) < LEAST_DRAG) return;
    if (!dragged) lane.setPointerCapture(event.pointerId);
    dragged = true;
    const here = place(event);
    setRange(Math.min(from.place, here), Math.max(from.place, here));
  });
  lane.addEventListener('pointerup', event => {
    if (!from) return;
    if (!dragged) ensemble.seek(place(event));
    else if (ensemble.position < range.start || ensemble.position >= range.end)
      ensemble.seek(range.start);
    from = null;
  });
  lane.addEventListener('pointercancel', () => { from = null; });
}

const keys = {
  ' ': playOrPause,
  ArrowLeft: event => ensemble.seek(ensemble.position - (event.shiftKey ? 0.5 : 5)),
  ArrowRight: event => ensemble.seek(ensemble.position + (event.shiftKey ? 0.5 : 5)),
  Home: () => ensemble.seek(0),
  End: () => ensemble.seek(seconds),
  l: () => setLoop(!pressed($('loop'))),
  '[': () => loopFrom(ensemble.position),
  ']': () => loopTo(ensemble.position),
  0: hearAll,
};
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (target.matches('input, select')) return;
  if (event.key === ' ' && target.matches('button, summary')) return;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  const track = digit && tracks[digit[1] - 1];
  if (track && !track.solo.disabled) toggle(event.shiftKey ? track.mute : track.solo);
  else if (keys[event.key.toLowerCase()] ?? keys[event.key])
    (keys[event.key.toLowerCase()] ?? keys[event.key])(event);
  else return;
  event.preventDefault();
});

if ('mediaSession' in navigator) {
  if (window.MediaMetadata)
    navigator.mediaSession.metadata = new MediaMetadata({ title: document.title });
  const actions = {
    play: () => ensemble.play(),
    pause: () => ensemble.pause(),
    seekbackward: () => ensemble.seek(ensemble.position - 5),
    seekforward: () => ensemble.seek(ensemble.position + 5),
    seekto: details => ensemble.seek(details.seekTime),
  };
  for (const [name, act] of Object.entries(actions)) {
    try { navigator.mediaSession.setActionHandler(name, act); } catch { /* unknown here */ }
  }
}

document.body.classList.toggle('no-volume', !volumeWorks);
document.body.classList.add('scripted');
$('total').textContent = time(seconds, 1);
mix();
setLoop(false);
showState();
new ResizeObserver(draw).observe(document.querySelector('.tracks'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);

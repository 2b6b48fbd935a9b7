// Choosing a score shows its figure; a player that starts stops the others.
const choice = document.getElementById('score');
function showChosen() {
  for (const figure of document.querySelectorAll('figure[data-score]'))
    figure.hidden = figure.dataset.score !== choice.value;
}
if (choice) { choice.addEventListener('change', showChosen); showChosen(); }
document.addEventListener('play', event => {
  for (const other of document.querySelectorAll('audio'))
    if (other !== event.target) other.pause();
}, true);

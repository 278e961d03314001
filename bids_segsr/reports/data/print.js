// on paper nothing flickers: both states of a comparison stand side by side
document.addEventListener('DOMContentLoaded', function () {
  document.querySelectorAll('#super-resolution object, #bias-field object').forEach(function (figure) {
    var pair = document.createElement('div');
    pair.className = 'pair';
    ['before', 'after'].forEach(function (state) {
      var image = document.createElement('img');
      image.src = figure.data.split('#')[0] + '#show-' + state;
      image.alt = '';
      pair.appendChild(image);
    });
    figure.parentNode.appendChild(pair);
    figure.classList.add('paired');
  });
});

(function () {
  var root = document.documentElement;
  var controls = Array.prototype.slice.call(document.querySelectorAll('.control'));
  function show(state) {
    root.setAttribute('data-state', state);
    controls.forEach(function (control) {
      control.setAttribute('aria-pressed', String(control.getAttribute('data-state') === state));
    });
  }
  controls.forEach(function (control, index) {
    control.addEventListener('click', function () { show(control.getAttribute('data-state')); });
    control.addEventListener('keydown', function (event) {
      var step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === 'Enter' || event.key === ' ') {
        show(control.getAttribute('data-state'));
        event.preventDefault();
      } else if (step) {
        controls[(index + step + controls.length) % controls.length].focus();
        event.preventDefault();
      }
    });
  });
})();

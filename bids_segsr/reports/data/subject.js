(function () {
  // a viewer tells how high it is
  window.addEventListener('message', function (event) {
    document.querySelectorAll('iframe.viewer').forEach(function (frame) {
      var height = event.data && event.data.viewerHeight;
      if (frame.contentWindow === event.source && height > 0) { frame.style.height = Math.ceil(height) + 2 + 'px'; }
    });
  });
  // the group page names itself in its links
  var group = new URLSearchParams(location.search).get('group');
  if (group && /^group_\w+\.html$/.test(group)) {
    var back = document.createElement('a');
    back.className = 'nav-link';
    back.href = './' + group;
    back.textContent = 'Group';
    var item = document.createElement('li');
    item.className = 'nav-item';
    item.appendChild(back);
    document.querySelector('#sections .navbar-nav').prepend(item);
  }
  document.querySelectorAll('form.rating').forEach(function (form) {
    var save = form.querySelector('button');
    var told = form.querySelector('[role=status]');
    var opened = Date.now();
    var key = 'bids_segsr-rater';
    try { form.elements.rater.value = localStorage.getItem(key) || ''; } catch (error) { /* forbidden: type it again */ }
    function chosen() { return form.querySelector('[name=rating]:checked'); }
    function initials() { return form.elements.rater.value.replace(/[^A-Za-z0-9]/g, ''); }
    form.addEventListener('input', function () {
      save.disabled = !(chosen() && initials());
      told.textContent = '';
    });
    form.addEventListener('submit', function (event) {
      event.preventDefault();
      var artefacts = Array.prototype.map.call(form.querySelectorAll('[name=artefact]:checked'), function (box) { return box.value; });
      var content = {
        bids_name: form.dataset.image,
        rating: chosen().value,
        artefacts: artefacts,
        comment: form.elements.comment.value.trim(),
        rater: initials(),
        model: form.dataset.model,
        time_sec: Math.round((Date.now() - opened) / 1000),
        rated_at: new Date().toISOString()
      };
      var name = form.dataset.image + '_rating-' + content.rater + '.json';
      var link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2) + '\n'], { type: 'application/json' }));
      link.download = name;
      link.click();
      URL.revokeObjectURL(link.href);
      try { localStorage.setItem(key, content.rater); } catch (error) { /* see above */ }
      told.textContent = 'Saved as ' + name + ': move it into the folder "ratings" of the derivatives.';
    });
  });
})();

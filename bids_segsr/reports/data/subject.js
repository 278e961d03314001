(function () {
  // a viewer tells how high it is
  window.addEventListener('message', function (event) {
    document.querySelectorAll('iframe.viewer').forEach(function (frame) {
      var height = event.data && event.data.viewerHeight;
      if (frame.contentWindow === event.source && height > 0) { frame.style.height = Math.ceil(height) + 2 + 'px'; }
    });
  });
  // the group level told where each image lies among the others
  var cohort = JSON.parse(document.querySelector('#cohort').textContent);
  cohort.pages.slice().reverse().forEach(function (page) {
    var back = document.createElement('a');
    back.className = 'nav-link';
    back.href = './' + page;
    back.textContent = 'Group' + (cohort.pages.length > 1 ? ' ' + page.slice(6, -5) : '');
    var item = document.createElement('li');
    item.className = 'nav-item';
    item.appendChild(back);
    document.querySelector('#sections .navbar-nav').prepend(item);
  });
  function share(place) { return place[0] <= place[1] ? 'the least' : place[0] >= place[5] ? 'the most' : 'above ' + Math.round(place[6]) + '\u00a0%'; }
  function strip(place) { // least to most, the middle half and the median of the cohort, and this image
    var least = Math.min(place[0], place[1]), most = Math.max(place[0], place[5]);
    var x = function (value) { return most > least ? (4 + 112 * (value - least) / (most - least)).toFixed(1) : '60'; };
    return '<svg viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">' +
      '<path d="M' + x(place[1]) + ' 7H' + x(place[5]) + '" stroke="#9aa5b1"/>' +
      '<rect x="' + x(place[2]) + '" y="2" height="10" width="' + Math.max(x(place[4]) - x(place[2]), 1) + '" fill="#c6d6e8"/>' +
      '<path d="M' + x(place[3]) + ' 1V13" stroke="#1b2430"/>' +
      '<circle cx="' + x(place[0]) + '" cy="7" r="3.5" fill="' + (place[7] ? '#d9622b' : '#2f6fb5') + '"/></svg>';
  }
  Object.keys(cohort.images).forEach(function (name) {
    var told = cohort.images[name];
    var table = document.querySelector('[id="qc-' + name.replace(/[^a-zA-Z0-9-]/g, '-') + '"] .qc-table');
    if (!table || !Object.keys(told.places).length) { return; }
    var head = document.createElement('th');
    head.scope = 'col';
    head.textContent = 'Among ' + told.of + ' ' + told.modality + ' images';
    table.tHead.rows[0].insertBefore(head, table.tHead.rows[0].cells[4]);
    table.querySelectorAll('tr.group th').forEach(function (title) { title.colSpan = 6; });
    table.querySelectorAll('tr[data-key]').forEach(function (row) {
      var place = told.places[row.dataset.key], cell = row.insertCell(4);
      cell.className = 'place';
      if (!place || place[1] === place[5] && place[0] === place[1]) { return; }
      cell.title = 'median ' + place[3] + ', middle half ' + place[2] + ' to ' + place[4] + ', all ' + place[1] + ' to ' + place[5] + (place[7] ? '; an outlier' : '');
      cell.innerHTML = strip(place);
      var words = document.createElement('span');
      words.textContent = share(place);
      if (place[7]) { words.className = 'out'; }
      cell.appendChild(words);
    });
  });
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

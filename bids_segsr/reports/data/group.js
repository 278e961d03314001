(function () {
  var table = document.getElementById('group-table');
  var body = table.tBodies[0];
  var filter = document.getElementById('filter');
  var only = document.getElementById('only-outliers');
  var count = document.getElementById('count');
  var rows = Array.prototype.slice.call(body.rows);
  function apply() {
    var words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    var shown = 0;
    rows.forEach(function (row) {
      var text = row.textContent.toLowerCase();
      var fits = words.every(function (word) { return text.indexOf(word) >= 0; });
      row.hidden = !fits || (only.checked && !row.querySelector('.outlier'));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = shown + ' of ' + rows.length + ' images';
  }
  function sort(header) {
    var column = header.cellIndex;
    var up = header.getAttribute('aria-sort') !== 'ascending';
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) {
      cell.removeAttribute('aria-sort');
    });
    header.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    rows.sort(function (first, second) {
      var a = first.cells[column].getAttribute('data-value');
      var b = second.cells[column].getAttribute('data-value');
      if (a === '' || b === '') { return (a === '') - (b === ''); }
      var order = header.hasAttribute('data-number') ? a - b : a.localeCompare(b, 'en', { numeric: true });
      return up ? order : -order;
    });
    rows.forEach(function (row) { body.appendChild(row); });
  }
  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header) {
    header.querySelector('button').addEventListener('click', function () { sort(header); });
  });
  filter.addEventListener('input', apply);
  only.addEventListener('change', apply);
  apply();
})();

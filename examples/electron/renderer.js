window.models.onProgress(({ name, phase, done, total, owner }) => {
  const row = document.getElementById(name)
  row.querySelector('output').textContent = owner === undefined ? phase : `${phase} for process ${owner}`
  const bar = row.querySelector('progress')
  if (total === undefined) bar.removeAttribute('value')
  else bar.value = done / total
})

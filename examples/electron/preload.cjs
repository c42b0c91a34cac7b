// The renderer is sandboxed and knows no Node: it gets this one function.
const { contextBridge, ipcRenderer } = require('electron')

contextBridge.exposeInMainWorld('models', {
  onProgress: (listener) => ipcRenderer.on('model-progress', (_event, progress) => listener(progress)),
})

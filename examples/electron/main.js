// The main process: one window, and two utility processes that both want the same model.
import path from 'node:path'
import { app, BrowserWindow, utilityProcess } from 'electron'

const source = process.env.MODEL ?? 'hf:ggml-org/models/tinyllamas/stories260K.gguf'
const here = import.meta.dirname

function startModelProcess(name, window) {
  const show = (message) => {
    if (!window.isDestroyed()) window.webContents.send('model-progress', { name, ...message })
  }
  const child = utilityProcess.fork(path.join(here, 'model-process.js'), [], {
    serviceName: `model process ${name}`,
    env: { ...process.env, MODEL: source, MODELS_DIRECTORY: path.join(app.getPath('userData'), 'models') },
  })
  child.on('message', show)
  child.on('exit', (code) => show({ phase: `ended with ${code}` }))
  // Kill one of them in the task manager: the other is told that the lock was abandoned, and goes on from where it stopped.
  child.on('spawn', () => show({ phase: `started as process ${child.pid}` }))
}

app.on('window-all-closed', () => app.quit())

await app.whenReady()
const window = new BrowserWindow({
  width: 640,
  height: 320,
  webPreferences: { preload: path.join(here, 'preload.cjs') },
})
await window.loadFile('index.html')
for (const name of ['first', 'second']) startModelProcess(name, window)

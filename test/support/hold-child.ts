// Holds a file's lock in a process or thread of its own, until it is ended.
import { parentPort, workerData } from 'node:worker_threads'
import { holdFile } from './file-hold.ts'

const path = parentPort === null ? process.argv[2] : (workerData as string)
const hold = holdFile(path ?? '')
const news = typeof hold === 'string' ? hold : 'held'
if (parentPort === null) {
  process.send?.(news)
  process.once('disconnect', () => process.exit())
} else {
  parentPort.postMessage(news)
  parentPort.on('message', () => {})
}

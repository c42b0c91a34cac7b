// Runs one test file on node-test.mjs. Ends the process: what a hanging test has left would keep it alive.
import { pathToFileURL } from 'node:url'
import { runAll } from './node-test.mjs'

await import(pathToFileURL(process.argv[2]).href)
await runAll()
process.exit(0)

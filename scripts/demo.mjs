// `npm run demo [-- <url or hf:user/repo/file.gguf>]`: sets up, builds and runs the demo.
import { run, setUp } from './setup.mjs'

setUp()
run(process.execPath, ['out/examples/demo/main.js', ...process.argv.slice(2)])

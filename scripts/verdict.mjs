// Runs a program that says at its end that it has passed. An exit code alone proves little: a program that ends early may
// have 0, too.
import { spawn } from 'node:child_process'

/**
 * Passes on what the program prints. Resolves with its exit code, and with 0 only if its last line begins with `passed`.
 * A signal that would end this process goes to the program, which then says how far it came.
 */
export function runToVerdict(command, args, { passed, ...options }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['inherit', 'pipe', 'inherit'], ...options })
    const passOn = (signal) => child.kill(signal)
    for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, passOn)
    let end = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      process.stdout.write(text)
      end = (end + text).slice(-4000)
    })
    const fail = (reason, code) => {
      console.error(`\nNOT PASSED: ${reason}`)
      resolve(code)
    }
    child.once('error', (error) => fail(`${command} could not be started: ${error.message}`, 1))
    child.once('close', (code, signal) => {
      for (const name of ['SIGTERM', 'SIGHUP']) process.off(name, passOn)
      const lastLine = end.trimEnd().split('\n').at(-1) ?? ''
      if (signal !== null) fail(`${signal} ended it before its verdict. The last thing it said: ${lastLine}`, 1)
      else if (code !== 0) fail(`its exit code is ${code}`, code)
      else if (!lastLine.startsWith(passed))
        fail(`it ended without its verdict. The last thing it said: ${lastLine}`, 1)
      else resolve(0)
    })
  })
}

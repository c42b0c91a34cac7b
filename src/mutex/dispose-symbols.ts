// Imported before all else: `Symbol.dispose` and `Symbol.asyncDispose` where they are missing. Node adds them to its own `Symbol` (V8 has
// them since Node 24), but not to that of a context of node:vm, in which Jest runs its tests and all they import. There these are Node's,
// so that `using` closes its objects, too.

complete('dispose', () => (require('node:child_process') as typeof import('node:child_process')).ChildProcess.prototype)
complete('asyncDispose', () => (require('node:stream') as typeof import('node:stream')).Readable.prototype)

function complete(name: 'dispose' | 'asyncDispose', bearer: () => object): void {
  if ((Symbol[name] as symbol | undefined) !== undefined) return
  const description = `Symbol.${name}`
  const symbols = Object.getOwnPropertySymbols(bearer())
  const value = symbols.find((symbol) => symbol.description === description) ?? Symbol(description)
  Object.defineProperty(Symbol, name, { value })
}

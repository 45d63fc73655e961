module.exports = name => `hello from a package, ${name}`

// Answers one request with what a package says.
const greet = require('greet')
const server = require('http').createServer((request, response) => {
  response.setHeader('Connection', 'close')
  response.end(greet(request.url.slice(1)) + '\n', () => server.close())
})
server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`))

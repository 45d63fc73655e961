// The web server of tests/build/go.rs: answers one visitor.
package main

import (
	"fmt"
	"net"

	"example.com/greet"
)

func main() {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		panic(err)
	}
	visitor, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	visitor.Read(make([]byte, 4096))
	fmt.Fprintf(visitor, "HTTP/1.0 200 OK\r\n\r\n%s\n", greet.Greet("visitor"))
	visitor.Close()
}

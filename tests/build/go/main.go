// The web server of tests/build/go.rs: answers one visitor.
package main

import (
	"fmt"
	"net"

	"example.com/greet"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("listening on", listener.Addr())
	visitor, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	visitor.Read(make([]byte, 4096))
	fmt.Fprintf(visitor, "HTTP/1.0 200 OK\r\n\r\n%s\n", greet.Greet("visitor"))
	visitor.Close()
}

// The hello of the comparison, as Go answers it with net/http: no framework, one process, no isolation between requests.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "listening on http://%s\n", listener.Addr())
	handler := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "text/plain")
		io.WriteString(w, "Hello from Fornax!\n")
	}
	log.Fatal(http.Serve(listener, http.HandlerFunc(handler)))
}

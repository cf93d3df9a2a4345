// The server of seeds 000 and 001: the ClientCAs recipe of the book, with the standard library alone.
//
//	go_server CERT KEY CLIENT_CERT...
//
// Serves on a free port of 127.0.0.1 and prints "listening 127.0.0.1:PORT" when it is ready.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

func hello(w http.ResponseWriter, r *http.Request) {
	name := r.TLS.PeerCertificates[0].Subject.CommonName
	fmt.Fprintf(w, "Hello, %s\n", name)
}

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: go_server CERT KEY CLIENT_CERT...")
	}
	pair, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, path := range os.Args[3:] {
		clientCert, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		if !pool.AppendCertsFromPEM(clientCert) {
			log.Fatalf("%s: no certificate", path)
		}
	}
	tlsConf := &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/hello", hello)
	fmt.Printf("listening %s\n", listener.Addr())
	server := &http.Server{TLSConfig: tlsConf}
	log.Fatal(server.ServeTLS(listener, "", ""))
}

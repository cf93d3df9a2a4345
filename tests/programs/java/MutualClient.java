import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/**
 * One GET by java.net.http.HttpClient with a PKCS12 key store and trust store.
 *
 * <p>Usage: MutualClient URL KEYSTORE TRUSTSTORE PASSWORD. Prints the body; a failure goes to standard error with exit
 * code 1.
 */
public final class MutualClient {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1)
                .sslContext(MutualServer.context(args[1], args[2], args[3].toCharArray()))
                .build();
        try {
            HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).build();
            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.print(response.body());
            System.exit(response.statusCode() == 200 ? 0 : 1);
        } catch (java.io.IOException error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                System.err.println(cause);
            }
            System.exit(1);
        }
    }
}

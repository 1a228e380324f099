import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Cycles by Java's HttpClient, as cycle.py describes them: four at a time. Prints what was sent. */
public class Cycles {
    private static final int WORKERS = 4;
    private static final Pattern ID = Pattern.compile("\"keyId\":\"([^\"]*)\"");

    private final Map<String, Integer> counts = new TreeMap<>();
    private final String url;
    private HttpClient.Version version = HttpClient.Version.HTTP_1_1;
    private double pause = 0;
    private final HttpClient client;

    public static void main(String[] arguments) throws Exception {
        Cycles cycles = new Cycles(arguments);
        try {
            cycles.run(Integer.parseInt(arguments[2]));
        } catch (Throwable failure) {
            failure.printStackTrace();
            // The other workers would go on.
            System.exit(1);
        }
        System.out.println(cycles.counts.entrySet().stream()
            .map(count -> "\"" + count.getKey() + "\":" + count.getValue())
            .collect(Collectors.joining(",", "{", "}")));
        System.exit(0);
    }

    /** Arguments: java URL CYCLES [--protocol HTTP/2] [--ca FILE] [--pause SECONDS]. */
    private Cycles(String[] arguments) throws Exception {
        url = arguments[1];
        HttpClient.Builder builder = HttpClient.newBuilder();
        boolean tls = false;
        for (int i = 3; i < arguments.length; i += 2) {
            String value = arguments[i + 1];
            switch (arguments[i]) {
                case "--protocol":
                    if (value.equals("HTTP/2")) version = HttpClient.Version.HTTP_2;
                    break;
                case "--ca":
                    tls = true;
                    builder.sslContext(trusting(value));
                    break;
                case "--pause":
                    pause = Double.parseDouble(value);
                    break;
                default:
                    throw new IllegalArgumentException(arguments[i]);
            }
        }
        // Without TLS the default stays: the client then asks for HTTP/2 by `Upgrade: h2c`, and must be content with HTTP/1.1.
        if (tls) builder.version(version);
        client = builder.build();
    }

    private static SSLContext trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream input = new FileInputStream(file)) {
            store.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(input));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    private void run(int cycles) throws Exception {
        var workers = Executors.newFixedThreadPool(WORKERS);
        List<Future<?>> all = new ArrayList<>();
        for (int worker = 0; worker < WORKERS; worker++) {
            int first = worker;
            all.add(workers.submit(() -> {
                for (int number = first; number < cycles; number += WORKERS) {
                    cycle(number);
                    Thread.sleep((long) (1000 * pause));
                }
                return null;
            }));
        }
        for (Future<?> worker : all) worker.get();
    }

    private void cycle(int number) throws Exception {
        var answer = send("POST", "/keys", 201, "{\"count\":3}", null);
        check(answer.body().split(",").length == 3, answer);
        answer = send("POST", "/keys", 201, null, null);
        check(header(answer, "location").equals("/keys/" + id(answer)), answer);
        count("created", 4);

        for (int turn = 0; turn < 3; turn++) {
            var lease = lease();
            String key = id(lease);
            String tag = header(lease, "etag");
            header(send("PUT", "/keepalive/" + key, 200, null, null), "key-expires-at");
            answer = send("PUT", "/keys/" + key + "/lease", 200, null, tag);
            check(header(answer, "etag").equals(tag), answer);
            // The tag of an earlier lease ends nothing.
            String earlier = "\"" + (Long.parseLong(tag.replace("\"", "")) - 1) + "\"";
            send("PUT", "/keys/" + key, 412, null, earlier);
            count("stale", 1);
            send("PUT", "/keys/" + key + (turn == number % 3 ? "?cooldown=5ms" : ""), 200, null, tag);
            count("released", 1);
        }

        answer = send("GET", "/keys?count=2&wait=1s", 200, null, null);
        List<String> keys = ID.matcher(answer.body()).results().map(found -> found.group(1)).collect(Collectors.toList());
        check(keys.size() == 1 || keys.size() == 2, answer);
        answer = send("PUT", "/keepalive", 200, ids(keys), null);
        check(answer.body().equals("{\"missing\":[]}"), answer);
        count("leased", keys.size());
        count("released", keys.size());
        String unknown = UUID.randomUUID().toString();
        keys.add(unknown);
        answer = send("PUT", "/keys", 200, ids(keys), null);
        check(answer.body().equals("{\"missing\":[\"" + unknown + "\"]}"), answer);

        send("GET", "/keys/" + unknown, 404, null, null);
        send("GET", "/keys?wait=soon", 400, null, null);
        send("PUT", "/keys", 422, "{}", null);

        for (int turn = 0; turn < 3; turn++) {
            answer = lease();
            send("DELETE", "/keys/" + id(answer), 200, null, header(answer, "etag"));
            count("deleted", 1);
        }
        send("DELETE", "/keys/" + id(answer), 404, null, header(answer, "etag"));

        answer = send("GET", "/stats", 200, null, null);
        check(number(answer, "keys") == number(answer, "free") + number(answer, "blocked") + number(answer, "cooling"), answer);
        check(number(answer, "created") == number(answer, "deleted") + number(answer, "keys"), answer);
    }

    private HttpResponse<String> lease() throws Exception {
        var answer = send("GET", "/keys?wait=1s", 200, null, null);
        count("leased", 1);
        header(answer, "lease-expires-at");
        return answer;
    }

    private HttpResponse<String> send(String method, String path, int status, String json, String tag) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofSeconds(60));
        if (json == null) {
            request.method(method, BodyPublishers.noBody());
        } else {
            request.method(method, BodyPublishers.ofString(json)).header("Content-Type", "application/json");
            // Over HTTP/2 neither hyper nor nginx answers it.
            request.expectContinue(version == HttpClient.Version.HTTP_1_1);
        }
        if (tag != null) request.header("If-Match", tag);
        var answer = client.send(request.build(), BodyHandlers.ofString());
        check(answer.statusCode() == status && answer.version() == version, answer);
        count(method + " " + route(path) + " " + status, 1);
        return answer;
    }

    /** The label of the metrics. */
    private static String route(String path) {
        String[] parts = path.split("\\?")[0].split("/");
        if (parts.length > 2) parts[2] = "{id}";
        return String.join("/", parts) + (path.contains("wait=") ? "?wait" : "");
    }

    private synchronized void count(String what, int n) {
        counts.merge(what, n, Integer::sum);
    }

    private static void check(boolean right, HttpResponse<String> answer) {
        if (!right) throw new AssertionError(answer + " " + answer.version() + " " + answer.headers().map() + " " + answer.body());
    }

    private static String header(HttpResponse<String> answer, String name) {
        return answer.headers().firstValue(name).orElseThrow(() -> new AssertionError(answer + " has no " + name));
    }

    private static String id(HttpResponse<String> answer) {
        var found = ID.matcher(answer.body());
        check(found.find(), answer);
        return found.group(1);
    }

    private static String ids(List<String> keys) {
        return keys.stream().collect(Collectors.joining("\",\"", "{\"keyIds\":[\"", "\"]}"));
    }

    private static long number(HttpResponse<String> answer, String name) {
        var found = Pattern.compile("\"" + name + "\":([0-9]+)").matcher(answer.body());
        check(found.find(), answer);
        return Long.parseLong(found.group(1));
    }
}
